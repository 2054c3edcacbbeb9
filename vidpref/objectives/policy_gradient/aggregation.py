"""How the terms of single draws become one loss: by name, as TRL calls them."""

import jax.numpy as jnp

from vidpref.typing import Array, Bool, Float

AGGREGATIONS = ("grpo", "dr_grpo", "dapo", "bnpo")


def aggregate(
    terms: Float[Array, "b g n"],
    mask: Bool[Array, "b g n"],
    answers: Float[Array, "b g"],
    *,
    name: str,
    length: int | None = None,
) -> Float[Array, ""]:
    """Returns the loss; 0 where nothing has weight.

    - "grpo": the mean of an answer's terms, then over the answers (Shao et al. 2024, eq. 3; McSc).
    - "dr_grpo": the sum of an answer's terms by the fixed `length`, then the mean over the answers:
      long answers are not pulled less (Liu et al. 2025, "Dr. GRPO").
    - "dapo": the mean over all draws of the global batch (Yu et al. 2025, "DAPO").
    - "bnpo": the mean over all draws of a microbatch, then over the microbatches; "dapo" where
      gradients are not accumulated.

    An answer without draws that count, such as one that was cut off, is still an answer of "grpo"
    and "dr_grpo", as in TRL.

    Args:
        terms: one of each draw; finite, also where masked.
        mask: draws that count.
        answers: weight of each answer; 0 for one of a padding prompt.
        name: one of `AGGREGATIONS`.
        length: of "dr_grpo": the longest that an answer may be.
    """
    total = jnp.where(mask, terms, 0.0) * answers[..., None]
    if name == "grpo":
        total = total / jnp.maximum(mask.sum(axis=2, keepdims=True), 1)
    elif name == "dr_grpo":
        total = total / length
    count = answers.sum() if name in ("grpo", "dr_grpo") else draw_count(mask, answers)
    return total.sum() / jnp.where(count > 0, count, 1.0)


def loss_count(
    mask: Bool[Array, "b g n"], answers: Float[Array, "b g"], *, name: str
) -> Float[Array, ""]:
    """Returns what `aggregate` divided by: what a microbatch weighs among the others."""
    if name == "bnpo":
        return jnp.ones(())
    return draw_count(mask, answers) if name == "dapo" else answers.sum()


def draw_count(mask: Bool[Array, "b g n"], answers: Float[Array, "b g"]) -> Float[Array, ""]:
    """Returns how many draws count, by the weights of their answers."""
    return (mask * answers[..., None]).sum()
