"""Scores of stored predictions and of papers."""
