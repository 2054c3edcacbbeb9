"""Features that distances are taken of: VideoMAE's and I3D's of clips, Inception-V3's of frames."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vidpref.interop.convolutional import ConvolutionalFile
from vidpref.interop.vision_encoders import EncoderFolder
from vidpref.models import i3d, inception
from vidpref.rewards.questions import shown_frames
from vidpref.typing import Array, PyTree
from vidpref.video_metrics.looks import middle_square, whole_square
from vidpref.video_metrics.measure import Clip, first_frames, too_few
from vidpref.video_metrics.networks import Network


class VideoMaeFeatures:
    """The mean of VideoMAE's states [e] over the first frames of a clip.

    Args:
        folder: the model.
        weights: digest of its files.
        stride: step from frame to frame; how many there are the model says.
        batch_size: clips at once.
    """

    name, of_prompt = "videomae", False

    def __init__(self, folder: EncoderFolder, weights: str, *, stride: int, batch_size: int):
        module, self._stride = folder.module, stride
        self._count, self._processor = module.num_frames, folder.processor()
        self.causes = {"weights": weights, "frames": self._count, "stride": stride}
        self._network = Network(
            folder, lambda params, clips: module.apply({"params": params}, clips), batch_size
        )

    def why_not(self, clip: Clip) -> str:
        """Refuses a clip of too few frames."""
        return too_few(clip, self._count, self._stride)

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the features of each clip."""
        shown = (first_frames(clip, self._count, self._stride) for clip in clips)
        return list(self._network(np.stack([self._processor(frames) for frames in shown])))


class I3dFeatures:
    """The logits of I3D [400] of the first frames of a clip, seen as in StyleGAN-V's FVD.

    Args:
        file: the model.
        weights: digest of its file.
        frames: of a clip.
        stride: step from frame to frame.
        batch_size: clips at once.

    Raises:
        ValueError: fewer frames than I3D can see.
    """

    name, of_prompt = "i3d", False

    def __init__(
        self, file: ConvolutionalFile, weights: str, *, frames: int, stride: int, batch_size: int
    ):
        if frames < i3d.FEWEST:
            raise ValueError(f"I3D needs {i3d.FEWEST} frames of a clip or more, not {frames}")
        module, self._count, self._stride = file.module, frames, stride
        self.causes = {"weights": weights, "frames": frames, "stride": stride}
        self.causes["epsilon"] = module.epsilon

        def features(params: PyTree, clips: Array) -> Array:
            return module.apply({"params": params}, middle_square(clips, i3d.SIDE))

        self._network = Network(file, features, batch_size)

    def why_not(self, clip: Clip) -> str:
        """Refuses a clip of too few frames."""
        return too_few(clip, self._count, self._stride)

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the features of each clip."""
        shown = [first_frames(clip, self._count, self._stride) for clip in clips]
        return self._network.of_several(shown)


class InceptionFrames:
    """Features [n, 2048] and logits [n, 1008] of Inception-V3, side by side, of frames of a clip.

    Args:
        file: the model.
        weights: digest of its file.
        frames: of a clip, evenly spaced; 0 for all.
        batch_size: frames at once.
    """

    name, of_prompt = "inception", False

    def __init__(self, file: ConvolutionalFile, weights: str, *, frames: int, batch_size: int):
        module, self._frames = file.module, frames
        self.causes = {"weights": weights, "frames": frames}

        def features(params: PyTree, images: Array) -> Array:
            shown = whole_square(images, inception.SIDE)
            return jnp.concatenate(module.apply({"params": params}, shown), axis=-1)

        self._network = Network(file, features, batch_size)

    def why_not(self, clip: Clip) -> str:
        """Takes every clip."""
        return ""

    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns the features and logits of frames of each clip."""
        found = []
        for clip in clips:
            count = len(clip.frames)
            found.append(self._network(clip.frames[shown_frames(count, self._frames or count)]))
        return found
