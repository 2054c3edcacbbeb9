"""How the next token is drawn, and how likely it was: one rule for sampling and for losses."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from vidpref.typing import Array, Float


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The rule by which tokens of an answer are drawn.

    Attributes:
        length: most tokens of an answer.
        end: tokens after which an answer is finished, any of them.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: only the k likeliest tokens, and those that are as likely as the last; 0 for all.
        top_p: only the fewest of the likeliest tokens that together have this probability.
        forbidden: tokens that are never drawn, such as those that stand for features.
        pad: what stands behind the end of an answer; it may be an end itself, so look at lengths.

    Raises:
        ValueError: a value that cannot work.
    """

    length: int
    end: tuple[int, ...]
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    forbidden: tuple[int, ...] = ()
    pad: int = 0

    def __post_init__(self):
        rules = {
            "length": (self.length >= 1, "1 or more"),
            "temperature": (0 <= self.temperature < math.inf, "0 or more"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
        }
        for field, (good, wanted) in rules.items():
            if not good:
                raise ValueError(f"{field}={getattr(self, field)!r}: must be {wanted}")
        both = set(self.end) & set(self.forbidden)
        if both:
            raise ValueError(f"token {min(both)} ends an answer and is forbidden")


def log_probabilities(logits: Float[Array, "*b v"], rule: Sampling) -> Float[Array, "*b v"]:
    """Returns the logarithm of the probability that a rule draws each token with, in float32.

    In the order of transformers: forbidden tokens, temperature, top-k, top-p (Holtzman et al. 2020,
    section 3.1). At temperature 0 they are those of temperature 1, of which the best is taken.

    Args:
        logits: of the next token.
        rule: how it is drawn.
    """
    logits = logits.astype(jnp.float32)
    vocabulary = logits.shape[-1]
    lowest = -jnp.inf
    if rule.forbidden:
        banned = jnp.zeros(vocabulary, bool).at[jnp.array(rule.forbidden)].set(True)
        banned = banned.reshape((1,) * (logits.ndim - 1) + banned.shape)
        logits = jnp.where(banned, lowest, logits)
    if rule.temperature > 0:
        logits = logits / rule.temperature
    if 0 < rule.top_k < vocabulary:
        least = jax.lax.top_k(logits, rule.top_k)[0][..., -1:]
        logits = jnp.where(logits < least, lowest, logits)
    if rule.top_p < 1:
        order = jnp.argsort(logits, axis=-1)
        ascending = jnp.take_along_axis(logits, order, axis=-1)
        below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1) <= 1 - rule.top_p
        below = below.at[..., -1].set(False)
        removed = jnp.take_along_axis(below, jnp.argsort(order, axis=-1), axis=-1)
        logits = jnp.where(removed, lowest, logits)
    return jax.nn.log_softmax(logits, axis=-1)
