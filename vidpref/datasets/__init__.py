"""Clips and labels: decoding, sources, caches, pipelines, the mini world."""
