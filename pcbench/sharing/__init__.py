"""What leaves the machine: the formats of a run's files, and runs as a data set."""
