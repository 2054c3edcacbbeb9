"""The judge of the mini world: pixels and prompt in, scores of [0, 1] out."""

from vidpref.rewards.verifier.judge import DIMENSIONS, RULES, Verifier

__all__ = ["DIMENSIONS", "RULES", "Verifier"]
