"""Runs in parts: which part of a run is a shard's, and how the folders of all shards become that of one run."""
