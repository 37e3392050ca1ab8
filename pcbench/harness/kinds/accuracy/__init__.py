"""Methods on a model, by their answers."""
