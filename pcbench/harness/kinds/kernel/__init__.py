"""Ops, by their times and rates."""
