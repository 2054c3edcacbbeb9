"""CLIP's vision tower."""
