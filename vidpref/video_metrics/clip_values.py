"""One number a clip: CLIP score, and VBench's dimensions of quality that need public weights."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from vidpref.evaluation.clip_score import clip_score
from vidpref.evaluation.vbench_dimensions import (
    dynamic_frames,
    is_dynamic,
    temporal_flickering,
)
from vidpref.interop.clip_tokens import ClipTokens
from vidpref.interop.raft import RaftFile, abstract_raft
from vidpref.models.raft.encoder import STRIDE
from vidpref.models.raft.network import SMALLEST
from vidpref.pixels import to_unit
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.typing import Array, Float, PyTree
from vidpref.video_metrics.measure import Clip, single
from vidpref.video_metrics.networks import Network, Weights

UPDATES = 20  # of RAFT, as VBench has them
_TOP = 0.05  # of the pixels


class ClipScore:
    """Mean cosine of frames and prompt.

    Args:
        model: CLIP.
        tokens: its tokenizer.
        causes: what values depend on.
    """

    name, of_prompt = "clip_score", True

    def __init__(self, model: ClipFrames, tokens: ClipTokens, causes: dict[str, object]):
        self._model, self._tokens, self.causes = model, tokens, causes

    def why_not(self, clip: Clip) -> str:
        """Refuses a clip without a prompt."""
        return "" if clip.prompt.strip() else "no_prompt: what it was made for is not known"

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the score of each clip."""
        texts = self._model.texts(self._tokens([clip.prompt for clip in clips]))
        frames = [self._model.images(clip.frames[None])[0] for clip in clips]
        return [
            np.asarray(clip_score(f, text), np.float32)
            for f, text in zip(frames, texts, strict=True)
        ]


class TemporalFlickering:
    """How little successive frames differ; no network."""

    name, of_prompt, causes = "temporal_flickering", False, {}

    def why_not(self, clip: Clip) -> str:
        """Refuses a single frame."""
        return single(clip)

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the value of each clip."""
        return [np.asarray(temporal_flickering(clip.frames), np.float32) for clip in clips]


class OfFrames:
    """A number that is made of the features of all frames of a clip.

    Args:
        name: of the measure.
        weights: of the network.
        features: (parameters, what the network is shown [n, h, w, 3]) -> features [n, ...].
        look: bytes of frames -> what the network is shown.
        value: features [t, ...] of a clip -> the number.
        causes: what values depend on.
        batch_size: frames at once.
        several: whether a single frame has no value.
    """

    of_prompt = False

    def __init__(
        self,
        name: str,
        weights: Weights,
        features: Callable[[PyTree, Array], Array],
        look: Callable[[Array], Array],
        value: Callable[[Float[Array, "t ..."]], float],
        *,
        causes: dict[str, object],
        batch_size: int,
        several: bool,
    ):
        self.name, self.causes, self._value, self._several = name, causes, value, several
        self._network = Network(
            weights, lambda params, frames: features(params, look(frames)), batch_size
        )

    def why_not(self, clip: Clip) -> str:
        """Refuses a single frame where that has no value."""
        return single(clip) if self._several else ""

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the value of each clip."""
        return [np.asarray(self._value(self._network(clip.frames)), np.float32) for clip in clips]


def aesthetic_value(
    weight: Float[Array, " d"], bias: float
) -> Callable[[Float[Array, "t d"]], float]:
    """Returns VBench's aesthetic quality of directions: a tenth of LAION's mean linear score."""
    return lambda directions: float(np.mean(directions @ weight + bias)) / 10.0


def imaging_value(scores: Float[Array, " t"]) -> float:
    """Returns VBench's imaging quality: a hundredth of MUSIQ's mean score."""
    return float(np.mean(scores)) / 100.0


class _OfRaft:
    """RAFT's file as `Weights`."""

    def __init__(self, file: RaftFile):
        self.module, self.load = file.module, file.load
        self.abstract = abstract_raft(file.module)


class DynamicDegree:
    """Whether a clip moves, 0 or 1, by RAFT's flow between frames an eighth of a second apart.

    Args:
        file: RAFT; VBench's own weights (raft-things) are torchvision's `C_T_V1` of the large size.
        weights: digest of its file.
        batch_size: pairs of frames at once.
    """

    name, of_prompt = "dynamic_degree", False

    def __init__(self, file: RaftFile, weights: str, *, batch_size: int):
        self.causes = {"weights": weights, "updates": UPDATES}

        def fastest(params: PyTree, pairs: Array) -> Array:
            h, w = pairs.shape[2:4]
            more = [((-n % STRIDE) // 2, -n % STRIDE - (-n % STRIDE) // 2) for n in (h, w)]
            frames = to_unit(pairs)
            frames = jnp.pad(frames, ((0, 0), (0, 0), *more, (0, 0)), mode="edge")
            flow = file.module.apply({"params": params}, frames[:, 0], frames[:, 1], UPDATES)
            norms = -jnp.sort(-jnp.linalg.norm(flow, axis=-1).reshape(len(pairs), -1), axis=-1)
            return norms[:, : int(_TOP * norms.shape[1])].mean(axis=1)

        self._network = Network(_OfRaft(file), fastest, batch_size)

    def why_not(self, clip: Clip) -> str:
        """Refuses a clip of one frame, or one that is too small for RAFT."""
        h, w = clip.frames.shape[1:3]
        least = SMALLEST - STRIDE + 1  # sides are filled up to a multiple
        if min(h, w) < least:
            return f"too_small: {h}x{w} pixels, and RAFT needs {least} a side"
        return single(clip)

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns 1 for each clip that moves."""
        found = []
        for clip in clips:
            frames = clip.frames[list(dynamic_frames(len(clip.frames), clip.fps))]
            if len(frames) < 2:  # shorter than an eighth of a second: nothing to compare
                found.append(np.asarray(0.0, np.float32))
                continue
            speeds = self._network(np.stack([frames[:-1], frames[1:]], axis=1))
            found.append(np.asarray(is_dynamic(speeds, *frames.shape[1:3]), np.float32))
        return found
