"""Preference alignment of text-to-video generators in JAX/Flax."""

__version__ = "0.1.0"
