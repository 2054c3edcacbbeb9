"""VideoReward as a judge: a trained reward model scores clips (VideoAlign 3.2)."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from vidpref.config.nearest import nearest
from vidpref.datasets.preferences import OVERALL
from vidpref.interop.video_reward import VideoRewardFolder
from vidpref.language.video_reward import RewardRow
from vidpref.models.frozen import Keeping
from vidpref.models.lora import apply_network
from vidpref.models.qwen_vl.packing import Room
from vidpref.models.qwen_vl.reward import QwenVLReward, RewardInputs, smallest_rows
from vidpref.rewards.reward import Judgement
from vidpref.training.sharding import (
    abstract_params,
    activation_rules,
    batch_sharding,
    filled_up,
    make_mesh,
    replicated,
)
from vidpref.typing import Array, Float, PyTree, UInt8

ROW_TOKENS = 128  # rows are padded to a multiple of it: prompts of many lengths share a program


class VideoReward:
    """Scores clips by the reward model of a folder.

    The model lies on the devices of this process, and every process scores clips of its own. A
    dimension whose token stands before the prompt scores a clip the same under any prompt.

    Args:
        folder: see `VideoRewardFolder`.
        dimensions: what to score: dimensions of the model, and "overall".
        base: see `VideoRewardFolder`.
        template: see `VideoRewardFolder.reader`.
        fps: frames a second of clips whose rate is not given to `score`; 0 for unknown.
        overall: "mean" (VideoAlign's paper) or "sum" (its code) of all dimensions of the model.
        normalise: whether scores are normalised as the folder says.
        batch_size: clips that are scored at once, over all devices of the process.
        dtype: type of the computation.

    Raises:
        ValueError: a folder that cannot be read, or a dimension that the model does not score.
    """

    def __init__(
        self,
        folder: str,
        dimensions: Sequence[str],
        *,
        base: str = "",
        template: str = "",
        fps: float = 0.0,
        overall: str = "mean",
        normalise: bool = True,
        batch_size: int = 8,
        dtype: str = "bfloat16",
    ):
        opened = open_folder(folder, base, dimensions)
        own = opened.settings
        self.dimensions = tuple(dimensions)
        self._name = f"VideoReward {opened.path.name} ({opened.checkpoint.name})"
        self._known, self._fps, self._sums = own.dimensions, fps, overall == "sum"
        self.normalisation = own.normalisation if normalise else None
        self._reader = opened.reader(template)
        self._mesh = make_mesh({"fsdp": -1}, jax.local_devices())
        self._batch_size = filled_up(batch_size, self._mesh)
        module = opened.module(dtype=dtype, attention="auto")
        target = abstract_params(opened.shapes(module), self._mesh)
        self._policy = opened.load(module, target, keep=keeping(module).one)
        self._run = scoring(module, self._mesh)

    def __str__(self) -> str:
        scale = f"normalised by {self.normalisation}" if self.normalisation else "raw scores"
        return f"{self._name}, {scale}"

    def score(
        self,
        clips: UInt8[Array, "b t h w c"],
        prompts: Sequence[str],
        fps: Float[Array, " b"] | None = None,
    ) -> Judgement:
        """Judges clips; one that the model cannot be shown is a failure.

        Args:
            clips: all frames that there are, in bytes.
            prompts: what each was made for.
            fps: frames a second of each; None where all have the rate of the settings.
        """
        rates = np.full(len(clips), self._fps) if fps is None else np.asarray(fps)
        rows: dict[int, RewardRow] = {}
        failures: dict[int, str] = {}
        for i, (clip, rate, prompt) in enumerate(zip(clips, rates, prompts, strict=True)):
            try:
                rows[i] = self._reader.row(np.asarray(clip), float(rate), prompt)
            except ValueError as error:
                failures[i] = str(error)
        raw = np.full((len(clips), len(self._known)), np.nan, np.float32)
        if rows:
            raw[list(rows)] = self._scores(list(rows.values()))
        wild = [i for i in rows if not np.isfinite(raw[i]).all()]
        failures |= dict.fromkeys(wild, "the model gave a score that is not finite")
        raw[wild] = np.nan
        reasons = [
            self._reason(raw[i], rows[i], len(clips[i])) if i in rows else ""
            for i in range(len(clips))
        ]
        found = dict(zip(self._known, raw.T, strict=True))
        if self.normalisation is not None:
            found = self.normalisation(found)
        every = np.stack([found[name] for name in self._known])
        found[OVERALL] = every.sum(axis=0) if self._sums else every.mean(axis=0)
        return Judgement({name: found[name] for name in self.dimensions}, reasons, failures)

    def _scores(self, rows: Sequence[RewardRow]) -> Float[np.ndarray, "n d"]:
        """Raw scores."""
        longest = max(len(row.row.tokens) for row in rows)
        room = Room(
            -(-longest // ROW_TOKENS) * ROW_TOKENS,
            max(row.row.media[0].grid[0] for row in rows),
            max(row.row.pixels[0].shape[1] for row in rows),
        )
        found = []
        for start in range(0, len(rows), self._batch_size):
            part = list(rows[start : start + self._batch_size])
            full = part + part[:1] * (self._batch_size - len(part))
            packed = jax.device_put(self._reader.pack(full, room), batch_sharding(self._mesh))
            found.append(np.asarray(self._run(self._policy, packed))[: len(part)])
        return np.concatenate(found)

    def _reason(self, raw: np.ndarray, row: RewardRow, frames: int) -> str:
        """What the score is made of: raw numbers, and what was seen."""
        seen, height, width = self._reader.seen(row)
        numbers = ", ".join(f"{n} {x:.4f}" for n, x in zip(self._known, raw, strict=True))
        of = f"{min(seen, frames)} of {frames} frames at {height}x{width} pixels"
        return f"raw {numbers}; saw {of}"


def keeping(module: QwenVLReward) -> Keeping:
    """Returns how the parameters of a judge are kept: in the type that its layers compute in."""

    def init(key: Array) -> PyTree:
        return module.init(key, smallest_rows(module.config, module.dimensions))["params"]

    return Keeping(init, "compute")


def scoring(module: QwenVLReward, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the compiled program `(policy, rows) -> raw scores [b, d]`, whole on every device.

    Args:
        module: the network.
        mesh: devices.
    """

    def score(policy: PyTree, rows: RewardInputs) -> Array:
        with activation_rules(mesh):
            return apply_network(module, policy, rows)

    return jax.jit(score, out_shardings=replicated(mesh))


def open_folder(folder: str, base: str, dimensions: Sequence[str]) -> VideoRewardFolder:
    """Returns the folder of a model that scores these dimensions; arguments as of `VideoReward`.

    Raises:
        ValueError: see there.
    """
    if not folder:
        raise ValueError(
            "config.reward.video_reward.folder is empty: give the folder of a reward model, that "
            "of a download or one that was trained here; or config.judge.name, for a run that "
            "trains its own"
        )
    opened = VideoRewardFolder(folder, base)
    known = (*opened.settings.dimensions, OVERALL)
    for name in dimensions:
        if name not in known:
            raise ValueError(
                f"config.reward: {folder} does not score {name!r}; {nearest(name, known)}"
            )
    return opened
