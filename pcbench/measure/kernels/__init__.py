"""Single ops: cases, shapes, baselines and times."""
