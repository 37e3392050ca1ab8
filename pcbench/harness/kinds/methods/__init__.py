"""Methods on a model, by their times, their peak memory and their throughput."""
