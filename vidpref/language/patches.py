"""Frames as the patches that the vision towers of Qwen-VL take."""

import dataclasses

import numpy as np

from vidpref.language.resizing import PixelBudget, resize
from vidpref.models.qwen_vl.configuration import QwenVLConfig, VisionConfig
from vidpref.models.qwen_vl.packing import patch_order
from vidpref.models.qwen_vl.positions import Media
from vidpref.typing import Array, Float, UInt8

# mean and deviation of colours within [0, 1]: CLIP's, and Qwen3-VL's
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
COLOURS = {"qwen2_vl": _CLIP, "qwen2_5_vl": _CLIP, "qwen3_vl": _HALF}
# Pixels of a frame, least and most, that VideoReward was trained with
VIDEOREWARD_PIXELS = (128 * 28 * 28, 448 * 448)


@dataclasses.dataclass(frozen=True)
class Eye:
    """How images and videos are brought to a model.

    Attributes:
        config: the model's.
        images: budget of an image.
        videos: budget of a video, or of each of its frames.
        resizer: see `resize`.
    """

    config: QwenVLConfig
    images: PixelBudget
    videos: PixelBudget
    resizer: str = "pillow"

    @classmethod
    def of(
        cls,
        config: QwenVLConfig,
        *,
        images: tuple[int, int],
        videos: tuple[int, int],
        resizer: str = "pillow",
        one_factor_first: bool = False,
    ) -> "Eye":
        """Returns the eye of a model with the rules of its family.

        Args:
            config: the model's.
            images: least and most pixels of an image.
            videos: of a frame; of a whole video for Qwen3-VL.
            resizer: see `resize`.
            one_factor_first: see `PixelBudget`.
        """
        vision = config.vision
        factor = vision.patch_size * vision.spatial_merge_size
        whole = config.family == "qwen3_vl"
        first = {"one_factor_first": one_factor_first}
        return cls(
            config,
            PixelBudget(factor, *images, **first),
            PixelBudget(factor, *videos, whole_video=whole, **first),
            resizer,
        )

    def image(self, image: UInt8[Array, "h w c"]) -> tuple[Media, Float[np.ndarray, "1 n d"]]:
        """Returns what an image is in a row, and its patches.

        Args:
            image: its pixels, in bytes.

        Raises:
            ValueError: see `PixelBudget.size`.
        """
        height, width = self.images.size(1, *image.shape[:2])
        return self._media(resize(image[None], height, width, self.resizer), False, 1.0)

    def video(
        self, frames: UInt8[Array, "t h w c"], fps: float
    ) -> tuple[Media, Float[np.ndarray, "t2 n d"]]:
        """Returns what a video is in a row, and its patches.

        Args:
            frames: the frames that are seen, in bytes; the last is repeated to fill a patch.
            fps: frames a second of these frames.

        Raises:
            ValueError: see `PixelBudget.size`.
        """
        height, width = self.videos.size(*frames.shape[:3])
        seconds = self.config.vision.temporal_patch_size / fps
        return self._media(resize(frames, height, width, self.resizer), True, seconds)

    def _media(
        self, frames: np.ndarray, is_video: bool, seconds: float
    ) -> tuple[Media, np.ndarray]:
        vision = self.config.vision
        patches = cut(normalised(frames, self.config.family), vision)
        _, h, w, _ = frames.shape
        grid = (len(patches), h // vision.patch_size, w // vision.patch_size)
        return Media(grid, is_video, seconds), patches


def normalised(frames: UInt8[Array, "t h w c"], family: str) -> Float[np.ndarray, "t h w c"]:
    """Returns pixels with the mean and deviation that a family was trained on.

    In the order and the types of transformers' processors: scaled in float64, then float32.
    """
    mean, deviation = (np.array(x, np.float32) for x in COLOURS[family])
    scaled = (np.asarray(frames, np.float64) * (1 / 255)).astype(np.float32)
    return (scaled - mean[None, None, None]) / deviation[None, None, None]


def cut(frames: Float[Array, "t h w c"], vision: VisionConfig) -> Float[np.ndarray, "t2 n d"]:
    """Returns the patches of every frame of patches, those of a feature next to each other.

    A patch is d = time, height, width, colour, in this order. An image fills a patch's time by
    repetition, as the last frame of an odd video does.

    Args:
        frames: normalised pixels whose sides are multiples of a feature's.
        vision: sizes of patches.
    """
    p, pt = vision.patch_size, vision.temporal_patch_size
    frames = np.asarray(frames)
    short = -len(frames) % pt
    frames = np.concatenate([frames, np.repeat(frames[-1:], short, axis=0)])
    t, h, w, c = frames.shape
    grid = frames.reshape(t // pt, pt, h // p, p, w // p, p, c).transpose(0, 2, 4, 1, 3, 5, 6)
    at = patch_order(h // p, w // p, vision.spatial_merge_size)
    return grid[:, at[:, 0], at[:, 1]].reshape(t // pt, len(at), -1)
