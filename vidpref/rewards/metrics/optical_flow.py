"""How much moves: the norm of RAFT's flow where it is largest, added up over pairs of frames."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.interop.raft import RaftFile, abstract_raft
from vidpref.models.raft.encoder import STRIDE
from vidpref.models.raft.network import SMALLEST
from vidpref.pixels import to_unit
from vidpref.rewards.metrics.measured import Measured
from vidpref.training.sharding import (
    abstract_params,
    batch_sharding,
    filled_up,
    in_scope,
    make_mesh,
    replicated,
)
from vidpref.typing import Array, Float, PyTree, UInt8

_TOP = 0.05  # of the pixels (AIF 3.2)


class OpticalFlowMetric:
    """Mean norm of the flow over the 5 % of pixels that move most, summed over successive frames.

    The norm is in pixels of the clip. RAFT wants 128 pixels a side: smaller frames are enlarged by
    a whole factor, and sides are filled up to a multiple of 8 by their last row and column.

    Args:
        file: weights of RAFT.
        updates: how often it improves the flow.
        batch_size: pairs of frames at once, over all devices of the process.
    """

    def __init__(self, file: RaftFile, *, updates: int, batch_size: int):
        self._mesh = make_mesh({"data": -1}, jax.local_devices())
        self._batch_size = filled_up(batch_size, self._mesh)
        self._params = file.load(abstract_params(abstract_raft(file.module), self._mesh))

        def fastest(params: PyTree, pairs: UInt8[Array, "b 2 h w 3"]) -> Float[Array, " b"]:
            h, w = pairs.shape[2:4]
            factor = max(1, -(-SMALLEST // min(h, w)))
            frames = to_unit(pairs).repeat(factor, axis=2).repeat(factor, axis=3)
            more = [(0, -size * factor % STRIDE) for size in (h, w)]
            frames = jnp.pad(frames, ((0, 0), (0, 0), *more, (0, 0)), mode="edge")
            with in_scope(self._mesh), jax.default_matmul_precision("float32"):
                flow = file.module.apply({"params": params}, frames[:, 0], frames[:, 1], updates)
            flow = flow[:, : h * factor, : w * factor] / factor
            norms = jnp.linalg.norm(flow, axis=-1).reshape(len(pairs), -1)
            top, _ = jax.lax.top_k(norms, max(1, int(_TOP * norms.shape[1])))
            return top.mean(axis=1)

        self._fastest = jax.jit(fastest, out_shardings=replicated(self._mesh))

    def __call__(self, clips: UInt8[Array, "b t h w 3"], prompts: Sequence[str]) -> Measured:
        """Returns the sums, which no prompt changes; a clip of one frame has none."""
        clips = np.asarray(clips)
        b, frames = clips.shape[:2]
        if frames < 2:
            why = dict.fromkeys(range(b), "a clip of one frame has no optical flow")
            return Measured(np.full(b, np.nan, np.float32), "no pairs of frames", why)
        starts = [(i, t) for i in range(b) for t in range(frames - 1)]
        found = []
        for first in range(0, len(starts), self._batch_size):
            part = starts[first : first + self._batch_size]
            full = part + part[:1] * (self._batch_size - len(part))
            pairs = np.stack([clips[i, t : t + 2] for i, t in full])
            placed = jax.device_put(pairs, batch_sharding(self._mesh))
            found.append(np.asarray(self._fastest(self._params, placed))[: len(part)])
        values = np.concatenate(found).reshape(b, frames - 1).sum(axis=1)
        return Measured(values, f"{frames - 1} pairs of frames")
