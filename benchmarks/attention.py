"""Attention on the CPU, whole and in chunks, against PyTorch's `scaled_dot_product_attention`.

    pip install -e ".[test]"
    JAX_PLATFORMS=cpu python benchmarks/attention.py
    JAX_PLATFORMS=cpu python benchmarks/attention.py --batch=1 --tokens=4096 --heads=8

All contenders get the same arrays, and nothing is timed unless outputs and gradients agree.
"chunks by jax.checkpoint" has the same forward pass as ours and no backward pass of its own.
"""

import functools
from collections.abc import Callable, Sequence

import interleaved
import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import flags

from vidpref.models.attention import dot_product_attention
from vidpref.runs import command_line as program
from vidpref.typing import Array

_BATCH = flags.DEFINE_integer("batch", 2, "Clips.", lower_bound=1)
_TOKENS = flags.DEFINE_integer("tokens", 1024, "Queries, and as many keys.", lower_bound=1)
_HEADS = flags.DEFINE_integer("heads", 6, "Heads.", lower_bound=1)
_HEAD_DIM = flags.DEFINE_integer("head_dim", 64, "Of a head.", lower_bound=1)
_CHUNKS = flags.DEFINE_list("chunks", ["128", "256", "512"], "Queries a chunk, a contender each.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Interleaved rounds.", lower_bound=1)
_TOLERANCE = 1e-5

Work = Callable[[], Sequence[np.ndarray]]


def main(overrides: Sequence[str]) -> None:
    if overrides:
        raise ValueError(f"this benchmark has flags only, no config: {' '.join(overrides)}")
    program.keep_freed_memory()  # PyTorch's too
    shape = (_BATCH.value, _TOKENS.value, _HEADS.value, _HEAD_DIM.value)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for _ in range(4)]  # q, k, v, gradient
    contenders = {"whole": _ours(dot_product_attention, arrays)}
    for chunk in map(int, _CHUNKS.value):
        own = functools.partial(dot_product_attention, implementation="chunked", chunk=chunk)
        contenders[f"chunks of {chunk}"] = _ours(own, arrays)
    by_checkpoint = functools.partial(_by_checkpoint, chunk=int(_CHUNKS.value[-1]))
    contenders[f"chunks of {_CHUNKS.value[-1]} by jax.checkpoint"] = _ours(by_checkpoint, arrays)
    contenders["PyTorch"] = _torch(arrays)
    _check(contenders)
    found = interleaved.times(contenders, _ROUNDS.value)
    interleaved.print_table(found, ["forward", "forward and backward"], "PyTorch")


def _ours(attend: Callable[..., Array], arrays: Sequence[np.ndarray]) -> tuple[Work, Work]:
    *inputs, gradient = jax.device_put(list(arrays))

    @jax.jit
    def both(q: Array, k: Array, v: Array, gradient: Array) -> list[Array]:
        out, back = jax.vjp(attend, q, k, v)
        return [out, *back(gradient)]

    forward = jax.jit(attend)
    return (
        lambda: [np.asarray(forward(*inputs))],
        lambda: jax.block_until_ready(both(*inputs, gradient)),
    )


def _by_checkpoint(q: Array, k: Array, v: Array, chunk: int) -> Array:
    b, l, n, d = q.shape
    if l % chunk:
        raise ValueError(f"--tokens={l} must be a multiple of the last of --chunks, {chunk}")

    @jax.checkpoint
    def attend(queries: Array) -> Array:
        return dot_product_attention(queries, k, v)

    out = jax.lax.map(attend, jnp.moveaxis(q.reshape(b, -1, chunk, n, d), 1, 0))
    return jnp.moveaxis(out, 0, 1).reshape(b, l, n, d)


def _torch(arrays: Sequence[np.ndarray]) -> tuple[Work, Work]:
    *inputs, gradient = (torch.from_numpy(x).transpose(1, 2) for x in arrays)
    for x in inputs:
        x.requires_grad_()
    attend = torch.nn.functional.scaled_dot_product_attention

    def whole(x: torch.Tensor) -> np.ndarray:
        return x.detach().transpose(1, 2).numpy()

    def forward() -> list[np.ndarray]:
        with torch.no_grad():
            return [whole(attend(*inputs))]

    def both() -> list[np.ndarray]:
        out = attend(*inputs)
        return [whole(x) for x in (out, *torch.autograd.grad(out, inputs, gradient))]

    return forward, both


def _check(contenders: dict[str, tuple[Work, Work]]) -> None:
    wanted = contenders["PyTorch"][1]()
    for name, (forward, both) in contenders.items():
        forward()
        for ours, theirs in zip(both(), wanted, strict=True):
            error = float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())
            if not error < _TOLERANCE:
                raise ValueError(f"{name} differs from PyTorch by {error:.1e}, so nothing is timed")


if __name__ == "__main__":
    program.launch(main)
