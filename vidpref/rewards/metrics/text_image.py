"""CLIP score, PickScore and HPSv2: how well frames go with the prompt, added up."""

from collections.abc import Sequence

import numpy as np

from vidpref.interop.clip_tokens import ClipTokens
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.rewards.metrics.measured import Measured
from vidpref.typing import Array, UInt8

# How frames become squares: HPSv2's own code puts them on black, the others' cuts them.
FITS = {"clip_score": "crop", "pick_score": "crop", "hps_v2": "pad"}


class TextImageMetric:
    """Cosine of the directions of frame and prompt, summed over frames (AIF 3.2).

    PickScore's own code multiplies the cosine by `exp(logit_scale)`, 100 in its published weights,
    which is a matter of `eta`.

    Args:
        model: the network.
        tokens: its tokenizer.
    """

    def __init__(self, model: ClipFrames, tokens: ClipTokens):
        self._model, self._tokens = model, tokens

    def __call__(self, clips: UInt8[Array, "b t h w 3"], prompts: Sequence[str]) -> Measured:
        """Returns the sums; a clip whose prompt is empty has none."""
        places = {text: place for place, text in enumerate(dict.fromkeys(prompts))}
        directions = self._model.texts(self._tokens(list(places)))
        each = directions[[places[prompt] for prompt in prompts]]
        values = np.einsum("bnd,bd->b", self._model.images(clips), each)
        empty = [i for i, prompt in enumerate(prompts) if not prompt.strip()]
        values[empty] = np.nan
        why = dict.fromkeys(empty, "the prompt is empty: what the clip was made for is unknown")
        return Measured(values, f"{len(self._model.seen(clips.shape[1]))} frames", why)
