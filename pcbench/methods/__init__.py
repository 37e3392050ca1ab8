"""Long-context methods, one file each; they know models only through `types.ModelRunner` and `types.KVStore`."""
