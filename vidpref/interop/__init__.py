"""Weights in and out: checkpoints of diffusers and transformers <-> parameter trees."""
