"""Cells → records."""
