"""Sections about answers and their scores."""
