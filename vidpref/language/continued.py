"""Prompts with their answers and what is asked next: rows by which a policy is asked again."""

import jax.numpy as jnp
import numpy as np

from vidpref.models.qwen_vl.inputs import Inputs, Patches
from vidpref.typing import Array, Int


def continued(
    prompts: Inputs,
    tokens: Int[Array, "b g n"],
    lengths: Int[Array, "b g"],
    more: Int[np.ndarray, " m"] | None = None,
) -> Inputs:
    """Returns b g rows of prompts and answers, as drawing has read them, padded on both sides.

    The answers of a prompt follow each other. Of `answer`'s draws the last n tokens have the logits
    that these were drawn by; the last m those that a model would go on with after `more`.

    Args:
        prompts: b prompts, padded on the left.
        tokens, lengths: see `Answers`.
        more: tokens that stand right behind every answer.
    """
    b, g, n = tokens.shape
    more = np.zeros(0, np.int32) if more is None else more
    m = len(more)

    def each(x: Array) -> Array:
        return jnp.repeat(jnp.asarray(x), g, axis=0)

    length = lengths.reshape(-1, 1)
    place = jnp.arange(n + m)[None]
    answers = jnp.pad(tokens.reshape(b * g, n), ((0, 0), (0, m)))
    told = jnp.where(place < length, answers, 0)
    if m:
        behind = jnp.clip(place - length, 0, m - 1)
        told = jnp.where(place >= length, jnp.asarray(more, jnp.int32)[behind], told)
    there = place < length + m
    mask = each(prompts.mask)
    positions = each(prompts.positions)
    last = jnp.where(mask[..., None], positions, -1).max(axis=(1, 2))
    following = jnp.broadcast_to((last[:, None] + 1 + place)[..., None], (*told.shape, 3))
    patches = prompts.patches
    return Inputs(
        tokens=jnp.concatenate([each(prompts.tokens), jnp.where(there, told, 0)], axis=1),
        mask=jnp.concatenate([mask, there], axis=1),
        positions=jnp.concatenate([positions, following.astype(positions.dtype)], axis=1),
        features=jnp.concatenate([each(prompts.features), jnp.full_like(told, -1)], axis=1),
        patches=None
        if patches is None
        else Patches(*(each(x) for x in (patches.pixels, patches.mask, patches.at, patches.grid))),
    )
