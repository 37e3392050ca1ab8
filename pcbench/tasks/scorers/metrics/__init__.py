"""The measures that scorers put together."""
