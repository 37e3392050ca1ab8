"""Caches that transformers takes: slots of equal capacity, and segments of their own length."""
