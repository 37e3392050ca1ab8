"""Methods on a model, by what they lose on a text."""
