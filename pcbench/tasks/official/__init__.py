"""Benchmarks from their own files."""
