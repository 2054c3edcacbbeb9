"""From a batch and an apply function to an objective's arguments."""
