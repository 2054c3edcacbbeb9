"""Pixels as a reward model sees them, with their gradient: what `RewardReader` makes of a video."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from vidpref.language.frame_choice import choose_frames
from vidpref.language.patches import COLOURS
from vidpref.language.resizing import bicubic_weights
from vidpref.language.video_reward import RewardReader, RewardRow
from vidpref.models.qwen_vl.packing import Room, Row
from vidpref.models.qwen_vl.reward import to_arrays
from vidpref.typing import Array, Float, Int

PIXELS = "patch_pixels"  # the one array of a row that depends on the clip


@dataclasses.dataclass(frozen=True)
class SeenPixels:
    """Makes the rows of clips of one size in two parts: of the prompt, and of the pixels.

    The reader rounds to bytes, before and after it resizes; here nothing is rounded, so that there
    is a gradient. Scores differ by what half a step of a byte makes of them.

    Attributes:
        reader: of the model.
        clip: frames, height and width of every clip.
        fps: frames a second of the clips.
        most: frames that are seen at most; 0 as the reader has it.

    Raises:
        ValueError: frames or a size that the reader cannot take.
    """

    reader: RewardReader
    clip: tuple[int, int, int]
    fps: float
    most: int = 0

    @functools.cached_property
    def _reader(self) -> RewardReader:
        if not self.most:
            return self.reader
        viewing = self.reader.viewing
        fewer = min(self.most, viewing.most)
        viewing = dataclasses.replace(viewing, least=min(viewing.least, fewer), most=fewer)
        return dataclasses.replace(self.reader, viewing=viewing)

    @functools.cached_property
    def frames(self) -> Int[np.ndarray, " n"]:
        """The numbers of the frames that are seen."""
        viewing = self._reader.viewing
        return choose_frames(
            self.clip[0],
            self.fps,
            viewing.rule,
            rate=viewing.rate,
            least=viewing.least,
            most=viewing.most,
        )

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """The height and width in which they are seen."""
        return self._reader.eye.videos.size(len(self.frames), *self.clip[1:])

    @functools.cached_property
    def _sources(self) -> Int[np.ndarray, "f p"]:
        """Which patch of its frame lies at each place of a packed row; -1 for none."""
        row = self.row("a prompt")
        numbers = [np.zeros_like(pixels) for pixels in row.row.pixels]
        for pixels in numbers:
            pixels += np.arange(1, pixels.shape[1] + 1, dtype=pixels.dtype)[None, :, None]
        packed = self.reader.pack([RewardRow(Row(row.row.tokens, row.row.media, numbers), row.at)])
        return packed.inputs.patches.pixels[0, :, :, 0].astype(np.int32) - 1

    def row(self, prompt: str) -> RewardRow:
        """Returns the row of a black clip.

        Args:
            prompt: what the clip is made for.

        Raises:
            ValueError: see `RewardReader.row`.
        """
        return self._reader.row(np.zeros((*self.clip, 3), np.uint8), self.fps, prompt)

    def room(self, tokens: int) -> Room:
        """Returns the size of the arrays of rows with room for so many tokens."""
        return Room(tokens, *self._sources.shape)

    def arrays(self, prompt: str, room: Room) -> dict[str, np.ndarray]:
        """Returns the arrays of a row, without the axis of rows and without pixels.

        Args:
            prompt: what the clip is made for.
            room: from `room`.

        Raises:
            ValueError: see `row`, or a row that is larger than the room.
        """
        found = to_arrays(self._reader.pack([self.row(prompt)], room))
        return {name: np.asarray(x)[0] for name, x in found.items() if name != PIXELS}

    def patches(self, pixels: Float[Array, "b t h w c"]) -> Float[Array, "b f p d"]:
        """Returns the array `PIXELS` of rows; linear in the pixels, but where they are cut off.

        Args:
            pixels: clips within [-1, 1].
        """
        vision, family = self.reader.vision, self.reader.config.family
        seen = (pixels[:, self.frames] + 1.0) / 2.0
        if seen.shape[2:4] != self.size:
            rows, columns = map(bicubic_weights, seen.shape[2:4], self.size)
            seen = jnp.einsum("yh,bthwc,xw->btyxc", rows, seen, columns, precision="highest")
        mean, deviation = (
            jnp.asarray(x, seen.dtype)[None, None, None, None] for x in COLOURS[family]
        )
        normal = (jnp.clip(seen, 0.0, 1.0) - mean) / deviation
        p, pt, merge = vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size
        short = -normal.shape[1] % pt
        normal = jnp.concatenate([normal, jnp.repeat(normal[:, -1:], short, axis=1)], axis=1)
        b, t, h, w, c = normal.shape
        frames, down, across = t // pt, h // p // merge, w // p // merge
        # frames of patches, features, patches of a feature, and what a patch holds, as `cut` does
        grid = normal.reshape(b, frames, pt, down, merge, p, across, merge, p, c)
        grid = grid.transpose(0, 1, 3, 6, 4, 7, 2, 5, 8, 9)
        cut = grid.reshape(b, frames, h * w // p**2, pt * p * p * c)
        there = self._sources[None, :, :, None]
        taken = jnp.take_along_axis(cut, jnp.maximum(there, 0), axis=2)
        return jnp.where(there >= 0, taken, 0.0)
