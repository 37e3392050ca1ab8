"""Scorers: pure functions prediction × answers → 0…1, each with an id and a source. No torch."""
