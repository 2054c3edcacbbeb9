"""Training rows of a judge that learns to answer: clips with a question and its answer."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vidpref.datasets.clip_rows import text_of
from vidpref.language.image_questions import ImageQuestions, Seen
from vidpref.models.qwen_vl.inputs import to_arrays
from vidpref.models.qwen_vl.packing import Room, Row
from vidpref.rewards.questions import shown_frames
from vidpref.stages.answer_examples import Example
from vidpref.stages.judge_rows import SeenClips
from vidpref.typing import Bool, Int

_TOKENS = 64  # rows are padded to a multiple of it, so that there are few programs
_WORD, _REASON = 16, 64  # answers to the first, or to a multiple of the second


class AnswerRows:
    """A grain source of questions with answers, as `AnswerLoss` takes them, without the batch axis.

    Without answers a row is what a judge draws answers to, with `example`, its number.

    Args:
        clips: the clips.
        reader: how frames and questions are seen.
        examples: what is asked.
        frames: of a clip that are shown at most.
        form: see `Example.answer`; None for no answers.
        dtype: type of the pixels; the network computes the same of those in its own type.

    Attributes:
        shapes: bucket of each row: the rows of one bucket have one shape.
        rooms: size of the arrays of each bucket, and of its answers, 0 without.
        sizes: tokens, frames, patches and answer's tokens of each row's room [n, 4].

    Raises:
        ValueError: an example that does not fit the model; says which.
    """

    def __init__(
        self,
        clips: SeenClips,
        reader: ImageQuestions,
        examples: Sequence[Example],
        frames: int,
        form: str | None,
        dtype: str = "float32",
    ):
        self._clips, self._reader, self._examples = clips, reader, examples
        self._form, self._frames, self._dtype = form, frames, jnp.dtype(dtype)
        # pictures of nothing take as many tokens as others of their size
        self._blank = functools.cache(lambda *size: reader.see(np.zeros((*size, 3), np.uint8)))
        self.sizes = np.array([self._size(example) for example in examples])
        self.rooms, self.shapes = buckets(self.sizes)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.arrays(index, *self.rooms[int(self.shapes[index])])

    def arrays(self, index: int, room: Room, most: int) -> dict[str, np.ndarray]:
        """Returns a row in a room of its size or a larger one, with its answer in `most` tokens."""
        example = self._examples[index]
        records = [self._clips.record(number) for number in example.clips]
        seen, frames = [], 0
        for video in (record["video"] for record in records):
            shown = shown_frames(len(video), self._frames)
            seen, frames = seen + self._reader.see(video[shown]), len(shown)
        row, said = self._row(example, seen, text_of(records[0]["prompt"]), frames)
        packed = self._reader.pack([row], room)
        found = {name: x[0] for name, x in to_arrays(packed).items()}
        found["patch_pixels"] = found["patch_pixels"].astype(self._dtype)
        if self._form is None:
            return {**found, "example": np.int32(index)}
        return {**found, "said": np.pad(said, (most - len(said), 0))}

    def _row(
        self, example: Example, seen: Sequence[Seen], prompt: str, frames: int
    ) -> tuple[Row, Bool[np.ndarray, " n"]]:
        asked = self._reader.row(seen, example.question.about(prompt, frames))
        if self._form is None:
            return asked, np.zeros(0, bool)
        said = [example.answer(self._form), *example.next]
        for other in example.more:
            said += [other.question.about(prompt, frames), other.answer(self._form)]
        return self._reader.answered(asked, *said, every=bool(example.more))

    def _size(self, example: Example) -> tuple[int, int, int, int]:
        """Tokens, frames and patches of the room of an example, and tokens of its answer."""
        rows = [self._clips.index.iloc[number] for number in example.clips]
        seen, frames = [], 0
        for row in rows:
            frames = len(shown_frames(int(row["frames"]), self._frames))
            seen += self._blank(frames, int(row["height"]), int(row["width"]))
        try:
            row, said = self._row(example, seen, rows[0]["prompt"], frames)
        except ValueError as error:
            names = " and ".join(map(str, self._clips.index.index[list(example.clips)]))
            raise ValueError(f"clip {names}: {error}") from error
        patches = max(pixels.shape[1] for _, pixels in seen)
        answer = _of_answer(len(said)) if len(said) else 0
        grids = sum(media.grid[0] for media, _ in seen)
        return _padded(len(row.tokens), _TOKENS), grids, patches, answer


def buckets(
    sizes: Int[np.ndarray, "n 4"],
) -> tuple[list[tuple[Room, int]], Int[np.ndarray, " n"]]:
    """Returns the different rooms with the tokens of their answers, and which each row has."""
    found, shapes = np.unique(sizes, axis=0, return_inverse=True)
    rooms = [(Room(*map(int, size[:3])), int(size[3])) for size in found]
    return rooms, shapes.reshape(-1)


def _of_answer(said: int) -> int:
    return _WORD if said <= _WORD else _padded(said, _REASON)


def _padded(count: int, step: int) -> int:
    return -(-count // step) * step


def largest_rows(reader: ImageQuestions, clips: int, frames: int, said: int) -> tuple[Room, int]:
    """Returns a room that no row exceeds, and the tokens of its longest answer.

    Args:
        reader: how frames and questions are seen.
        clips: that are shown at once, 1 or 2.
        frames: of a clip that are shown at most.
        said: tokens of an answer at most.
    """
    answer = _of_answer(said)
    model = reader.config
    patches = reader.eye.images.most // model.vision.patch_size**2
    grids = -(-frames // model.vision.temporal_patch_size) if reader.fps else frames
    return Room(_padded(reader.most_tokens + answer, _TOKENS), clips * grids, patches), answer
