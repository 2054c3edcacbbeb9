"""Who judges a clip."""
