"""Diffusion transformers of this project: full and spatio-temporal attention."""
