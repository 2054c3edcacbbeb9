"""CLIP on the devices of a process: directions of frames and texts, some of them at a time."""

from collections.abc import Callable

import jax
import numpy as np

from vidpref.interop.clip_folders import ClipFolder, abstract_clip
from vidpref.rewards.questions import shown_frames
from vidpref.training.sharding import (
    abstract_params,
    activation_rules,
    batch_sharding,
    filled_up,
    make_mesh,
    replicated,
)
from vidpref.typing import Array, Float, Int, PyTree, UInt8


class ClipFrames:
    """A CLIP model of a folder.

    Args:
        folder: of the model.
        fit: how frames become squares, see `ImageProcessor`.
        frames: of a clip that are seen, evenly spaced; 0 for all.
        batch_size: frames or texts at once, over all devices of the process.
        dtype: type of the computation.

    Raises:
        ValueError: see `ClipFolder`.
    """

    def __init__(self, folder: ClipFolder, *, fit: str, frames: int, batch_size: int, dtype: str):
        module = folder.module(dtype=dtype)
        self.width, self._frames = module.projection_dim, frames
        self._processor = folder.processor(fit)
        self._mesh = make_mesh({"fsdp": -1}, jax.local_devices())
        self._batch_size = filled_up(batch_size, self._mesh)
        self._params = folder.load(abstract_params(abstract_clip(module), self._mesh))

        def program(method: str) -> jax.stages.Wrapped:
            def embed(params: PyTree, batch: Array) -> Array:
                # float32 is meant: accelerators would round products, and cosines differ by little
                with activation_rules(self._mesh), jax.default_matmul_precision("float32"):
                    return module.apply({"params": params}, batch, method=method)

            return jax.jit(embed, out_shardings=replicated(self._mesh))

        self._images, self._texts = program("embed_images"), program("embed_texts")

    def seen(self, frames: int) -> Int[np.ndarray, " n"]:
        """Returns the numbers of the frames that are seen of a clip of so many."""
        return shown_frames(frames, self._frames or frames)

    def images(self, clips: UInt8[Array, "b t h w 3"]) -> Float[np.ndarray, "b n d"]:
        """Returns the directions of the frames that are seen."""
        shown = np.asarray(clips)[:, self.seen(clips.shape[1])]
        flat = shown.reshape(-1, *shown.shape[2:])
        found = self._in_parts(self._images, flat, self._processor)
        return found.reshape(*shown.shape[:2], -1)

    def texts(self, tokens: Int[np.ndarray, "b l"]) -> Float[np.ndarray, "b d"]:
        """Returns the directions of texts."""
        return self._in_parts(self._texts, tokens, np.asarray)

    def _in_parts(
        self,
        program: jax.stages.Wrapped,
        rows: np.ndarray,
        prepared: Callable[[np.ndarray], np.ndarray],
    ) -> Float[np.ndarray, "n d"]:
        found = []
        for start in range(0, len(rows), self._batch_size):
            part = prepared(rows[start : start + self._batch_size])
            missing = self._batch_size - len(part)  # the last part, which shares the program
            full = np.concatenate([part, part[:1].repeat(missing, axis=0)])
            placed = jax.device_put(full, batch_sharding(self._mesh))
            found.append(np.asarray(program(self._params, placed))[: len(part)])
        return np.concatenate(found)
