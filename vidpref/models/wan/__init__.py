"""Wan2.1: transformer, autoencoder, sizes."""
