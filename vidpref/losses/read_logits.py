"""What is read off the logits of answers, a few tokens at a time where the vocabulary is large."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.models.lora import apply_network
from vidpref.models.qwen_vl.inputs import Inputs
from vidpref.typing import Array, Int, PyTree

MOST_LOGITS = 2**22  # of a row at once: 27 tokens of Qwen2-VL's vocabulary, 16 MiB


def read_logits(
    read: Callable[[Array, Array], PyTree],
    module: nn.Module,
    policy: PyTree,
    inputs: Inputs,
    tokens: Int[Array, "b n"],
) -> PyTree:
    """Returns what is read off the logits that the last n tokens of rows were drawn by.

    The logits of an answer of 512 tokens of 152k words take 297 MiB, their softmax and its gradient
    as much again. Of more than `MOST_LOGITS` a row, those of a few tokens are there at once, and
    are computed again for the gradient.

    Args:
        read: (logits [b, c, v], tokens [b, c]) -> arrays [b, c], token by token.
        module: the network, a `QwenVLAnswers`.
        policy: its parameters.
        inputs: prompts with their answers, padded on the left.
        tokens: what `read` is told of each token.
    """
    b, n = tokens.shape
    size = max(MOST_LOGITS // module.vocabulary, 1)
    if n <= size:
        return read(apply_network(module, policy, inputs, n), tokens)
    states = apply_network(module, policy, inputs, n, method="before")
    chunks = -(-n // size)

    def split(x: Array) -> Array:
        rest = [(0, chunks * size - n), *[(0, 0)] * (x.ndim - 2)]
        padded = jnp.pad(x, [(0, 0), *rest])
        return jnp.moveaxis(padded.reshape(b, chunks, size, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def chunk(own: tuple[Array, Array]) -> PyTree:
        states, tokens = own
        return read(apply_network(module, policy, states, method="logits"), tokens)

    found = jax.lax.map(chunk, (split(states), split(tokens)))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(b, chunks * size)[:, :n], found)
