"""Training rows of the align stage."""
