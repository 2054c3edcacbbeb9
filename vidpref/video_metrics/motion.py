"""VBench's dimensions of motion: whether a clip moves, and whether it moves as one would expect."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vidpref.evaluation.vbench_dimensions import dynamic_frames, is_dynamic
from vidpref.interop.convolutional import ConvolutionalFile
from vidpref.interop.raft import RaftFile, abstract_raft
from vidpref.models import amt
from vidpref.models.raft.encoder import STRIDE
from vidpref.models.raft.network import SMALLEST
from vidpref.pixels import to_unit
from vidpref.typing import Array, Float, PyTree
from vidpref.video_metrics.measure import Clip, single
from vidpref.video_metrics.networks import Network

UPDATES = 20  # of RAFT, as VBench has them
_TOP = 0.05  # of the pixels


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
            frames = _filled_up(to_unit(pairs), STRIDE)
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


class MotionSmoothness:
    """How near every second frame is to what AMT puts between its neighbours, 1 at the nearest.

    It is (255 - d) / 255, d the mean absolute difference in bytes. VBench shrinks frames for AMT
    where its GPU has too little memory for them; here they are seen whole.

    Args:
        file: AMT-S.
        weights: digest of its file.
        batch_size: pairs of frames at once.
    """

    name, of_prompt = "motion_smoothness", False

    def __init__(self, file: ConvolutionalFile, weights: str, *, batch_size: int):
        self.causes = {"weights": weights}

        def differences(params: PyTree, three: Array) -> Array:
            h, w = three.shape[2:4]
            ends = _filled_up(three[:, ::2].astype(jnp.float32) / 255.0, amt.STRIDE)
            middle = file.module.apply({"params": params}, ends[:, 0], ends[:, 1])
            top, left = ((-n % amt.STRIDE) // 2 for n in (h, w))
            middle = middle[:, top : top + h, left : left + w]
            # bytes as VBench makes them, cut off and not rounded
            drawn = jnp.floor(middle * 255.0)
            return jnp.abs(drawn - three[:, 1].astype(jnp.float32)).mean(axis=(1, 2, 3))

        self._network = Network(file, differences, batch_size)

    def why_not(self, clip: Clip) -> str:
        """Refuses a clip without a frame between two."""
        here = len(clip.frames)
        return f"too_short: {here} frames, and 3 are needed" if here < 3 else ""

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the value of each clip."""
        found = []
        for clip in clips:
            threes = np.stack([clip.frames[t : t + 3] for t in range(0, len(clip.frames) - 2, 2)])
            off = self._network(threes).astype(np.float64).mean()
            found.append(np.asarray((255.0 - off) / 255.0, np.float32))
        return found


def _filled_up(frames: Float[Array, "b k h w c"], multiple: int) -> Float[Array, "b k h2 w2 c"]:
    """Frames whose edges are repeated on both sides up to a multiple, the odd row behind."""
    more = [-n % multiple for n in frames.shape[2:4]]
    pads = [(0, 0), (0, 0), *((n // 2, n - n // 2) for n in more), (0, 0)]
    return jnp.pad(frames, pads, mode="edge")
