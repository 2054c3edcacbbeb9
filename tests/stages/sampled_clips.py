"""A finished sample stage of given clips."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from vidpref.datasets.scenes import Scene
from vidpref.generation.cascade import Sampler
from vidpref.stages.sample import sample_clips


class Given(Sampler):
    """Draws clips that are there: clip i is the one with number i of its scene."""

    def __init__(self, clips: np.ndarray, batch_size: int):
        self.batch_size, self._given = batch_size, clips

    def __call__(self, params, rows, seed, given=None):
        own = self.batch_size // jax.process_count()  # of a batch over all processes
        start = own * jax.process_index()
        mine = rows[start : start + own]
        return mine, {"video": self._given[[i for _, i in mine]]}


def write_sampled(
    folder: Path,
    clips: np.ndarray,
    *,
    batch_size: int = 8,
    first_frames: Sequence[np.ndarray | None] | None = None,
) -> None:
    """Writes `clips` as a sample stage does; clip i is "scene/<i>" of "prompt <i>"."""
    frames = first_frames or [None] * len(clips)
    scenes = [Scene("scene", f"prompt {i}", "DM", "train", f) for i, f in enumerate(frames)]
    rows = list(zip(scenes, range(len(clips)), strict=True))
    chunks = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    sample_clips(folder, Given(clips, batch_size), [], chunks, seed=0, name="sample")
