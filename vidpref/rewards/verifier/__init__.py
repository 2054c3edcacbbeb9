"""The judge of the mini world: pixels and prompt in, 0 or 1 out."""

from vidpref.rewards.verifier.judge import RULES, Verifier

__all__ = ["RULES", "Verifier"]
