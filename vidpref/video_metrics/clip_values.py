"""One number a clip: CLIP score, and VBench's dimensions of quality that need public weights."""

from collections.abc import Callable, Sequence

import numpy as np

from vidpref.evaluation.clip_score import clip_score
from vidpref.evaluation.vbench_dimensions import temporal_flickering
from vidpref.interop.clip_tokens import ClipTokens
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.typing import Array, Float, PyTree
from vidpref.video_metrics.measure import Clip, single
from vidpref.video_metrics.networks import Network, Weights


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
