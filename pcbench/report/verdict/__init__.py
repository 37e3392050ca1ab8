"""What the numbers of a run allow to say."""
