"""Positions of the tokens of a row in time, height and width (M-RoPE)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.typing import Int

AFTER = ("max", "transformers")


@dataclasses.dataclass(frozen=True)
class Media:
    """An image or video of a row.

    Attributes:
        grid: (t, h, w) in patches; t is 1 for an image.
        is_video: whether its tokens are those of a video.
        seconds: seconds of a frame of patches, which Qwen2.5-VL counts in its positions.
    """

    grid: tuple[int, int, int]
    is_video: bool
    seconds: float = 1.0

    def runs(self, config: QwenVLConfig) -> list["Media"]:
        """Returns the parts that stand between a start and an end of vision each.

        Qwen3-VL writes a time before every frame of a video; the others write it in one.
        """
        t, h, w = self.grid
        if config.family == "qwen3_vl" and self.is_video:
            return [dataclasses.replace(self, grid=(1, h, w))] * t
        return [self]

    def tokens(self, config: QwenVLConfig) -> int:
        """Returns how many tokens it takes in the row, without starts and ends."""
        t, h, w = self.grid
        return t * h * w // config.vision.merged


def mrope_positions(
    tokens: Int[np.ndarray, " l"],
    media: Sequence[Media],
    config: QwenVLConfig,
    *,
    after: str = "max",
) -> tuple[Int[np.ndarray, "l 3"], int]:
    """Returns the positions of a row's tokens, and that of the first token of an answer.

    Text counts up on all axes alike. A feature has the time, row and column of its place, from the
    position that the next token would have had (Wang et al. 2024, section 2.1).

    Args:
        tokens: of the row without padding; each image or video is a run of its own tokens.
        media: the images and videos of the row, in order.
        config: the model's.
        after: of the token after an image or video. "max" is the largest position of it plus one,
            as the models were trained and are served; "transformers" counts height and width only,
            as transformers 5.3 to 5.24 does, which differs for long videos. An answer's first
            token comes after the largest position in both.

    Raises:
        ValueError: tokens and media that do not fit each other, or an unknown `after`.
    """
    if after not in AFTER:
        raise ValueError(f"after={after!r} is unknown; {nearest(after, AFTER)}")
    merge = config.vision.spatial_merge_size
    pads = {config.image_token_id: False, config.video_token_id: True}
    runs = [run for part in media for run in part.runs(config)]
    positions = np.empty((len(tokens), 3), np.int32)
    image, video = pads
    places = np.flatnonzero((tokens == image) | (tokens == video))
    at, start, used = 0, 0, 0
    while at < len(tokens):
        token = int(tokens[at])
        if token not in pads:
            later = np.searchsorted(places, at)
            end = int(places[later]) if later < len(places) else len(tokens)
            positions[at:end] = start + np.arange(end - at)[:, None]
            at, start = end, start + end - at
            continue
        if used == len(runs) or runs[used].is_video != pads[token]:
            raise ValueError(
                f"token {at} stands for {'a video' if pads[token] else 'an image'}, and the row's "
                f"{'next is the other kind' if used < len(runs) else 'images and videos are used'}"
            )
        run = runs[used]
        used += 1
        end = at + run.tokens(config)
        if not (tokens[at:end] == token).all() or end > len(tokens):
            raise ValueError(
                f"an image or video of {run.grid} patches takes {end - at} tokens, and fewer stand "
                f"at token {at}"
            )
        t, h, w = run.grid
        rate = config.tokens_per_second if run.is_video and config.tokens_per_second else None
        times = np.arange(t)
        if rate is not None:  # in float32, as transformers multiplies before it rounds down
            step = np.float32(rate) * np.float32(run.seconds)
            times = (times.astype(np.float32) * step).astype(np.int64)
        axes = np.meshgrid(times, np.arange(h // merge), np.arange(w // merge), indexing="ij")
        own = np.stack(axes, axis=-1).reshape(-1, 3)
        positions[at:end] = start + own
        start += int(own.max()) + 1 if after == "max" else max(h, w) // merge
        at = end
    if used < len(runs):
        raise ValueError(
            f"the row has tokens for {used} of its {len(runs)} images and parts of videos"
        )
    return positions, int(positions.max(initial=-1)) + 1


def sequential_positions(length: int) -> Int[np.ndarray, "l 3"]:
    """Returns 0, 1, 2, ... on all axes, as VideoReward counts features too."""
    return np.repeat(np.arange(length, dtype=np.int32)[:, None], 3, axis=1)
