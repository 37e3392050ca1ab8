"""Which method to use: what fits in a memory at a length, and which of it answers best, as far as records can tell."""
