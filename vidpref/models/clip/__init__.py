"""CLIP: its two towers, and both of them together."""
