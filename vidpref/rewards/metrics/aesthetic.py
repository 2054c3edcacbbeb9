"""LAION's aesthetic score of frames, added up."""

from collections.abc import Sequence

import numpy as np

from vidpref.interop.safetensors_files import TensorFolder
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.rewards.metrics.measured import Measured
from vidpref.storage.copies import here
from vidpref.typing import Array, Float, UInt8


class AestheticMetric:
    """A linear function of the direction of a frame, from about 1 to 10, summed over frames.

    It is LAION's `sa_0_4_vit_l_14_linear`, which VBench's aesthetic quality is a tenth of.

    Args:
        model: CLIP ViT-L/14.
        head: weight [1, d] and bias [1] of the function.
    """

    def __init__(self, model: ClipFrames, head: tuple[np.ndarray, np.ndarray]):
        self._model, (self._weight, self._bias) = model, head

    def __call__(self, clips: UInt8[Array, "b t h w 3"], prompts: Sequence[str]) -> Measured:
        """Returns the sums, which no prompt changes."""
        scores = self._model.images(clips) @ self._weight[0] + self._bias[0]
        return Measured(scores.sum(axis=1), f"{scores.shape[1]} frames")


def read_head(path: str, width: int) -> tuple[Float[np.ndarray, "1 d"], Float[np.ndarray, " 1"]]:
    """Returns weight and bias of the head of a file.

    Args:
        path: a safetensors file.
        width: d, the width of CLIP's common space.

    Raises:
        ValueError: no such file, or the head of another network.
    """
    tensors = TensorFolder(here(path))
    wanted = {"weight": (1, width), "bias": (1,)}
    if tensors.shapes != wanted:
        raise ValueError(f"{path} holds {tensors.shapes}; the head of this CLIP model is {wanted}")
    weight, bias = (np.asarray(tensors[name], np.float32) for name in wanted)
    return weight, bias
