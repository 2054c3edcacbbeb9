"""Training rows of a judge that answers: clips with a question and its answer, in few sizes."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import pandas as pd

from vidpref.config.vlm_judge import PROBABILITIES, REASONED
from vidpref.datasets.clip_rows import text_of
from vidpref.datasets.preferences import Preferences
from vidpref.datasets.preferences.labels import clip_ratings, pair_labels
from vidpref.language.image_questions import ImageQuestions, Seen
from vidpref.models.qwen_vl.inputs import to_arrays
from vidpref.models.qwen_vl.packing import Room, Row
from vidpref.objectives.preference import Preference
from vidpref.rewards.questions import (
    BETTER,
    GRADES,
    VERDICTS,
    YES_NO,
    Question,
    reasoned,
    shown_frames,
)
from vidpref.stages.judge_rows import SeenClips

_TOKENS = 64  # rows are padded to a multiple of it, so that there are few programs
_WORD, _REASON = 16, 64  # answers to the first, or to a multiple of the second


@dataclasses.dataclass(frozen=True)
class Example:
    """What a judge is asked, and what is right.

    Attributes:
        clips: numbers of the clip, or of the two, in `SeenClips.index`.
        question: what is asked.
        word: the right one of its words.
        reason: why, where somebody said so.
        next: what is asked behind the answer, and what is right then; () for nothing.
    """

    clips: tuple[int, ...]
    question: Question
    word: str
    reason: str = ""
    next: tuple[str, ...] = ()

    def answer(self, form: str) -> str:
        """Returns what the judge is to say, in a form of `config.vlm_judge.VlmJudge.answers`.

        A verdict is one word, whatever the form.
        """
        if form == REASONED and self.question.words == GRADES:
            return reasoned(self.reason, self.word)
        if form == PROBABILITIES or self.question.words == VERDICTS or not self.reason:
            return self.word
        return f"{self.reason}\n{self.word}"


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
        sizes = np.array([self._size(example) for example in examples])
        found, shapes = np.unique(sizes, axis=0, return_inverse=True)
        self.rooms = [(Room(*map(int, size[:3])), int(size[3])) for size in found]
        self.shapes: np.ndarray = shapes.reshape(-1)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        example = self._examples[index]
        room, most = self.rooms[int(self.shapes[index])]
        records = [self._clips.record(number) for number in example.clips]
        seen, frames = [], 0
        for video in (record["video"] for record in records):
            shown = shown_frames(len(video), self._frames)
            seen, frames = seen + self._reader.see(video[shown]), len(shown)
        text = example.question.about(text_of(records[0]["prompt"]), frames)
        row, said = self._row(example, seen, text)
        packed = self._reader.pack([row], room)
        found = {name: x[0] for name, x in to_arrays(packed).items()}
        found["patch_pixels"] = found["patch_pixels"].astype(self._dtype)
        if self._form is None:
            return {**found, "example": np.int32(index)}
        return {**found, "said": np.arange(most) >= most - said}

    def _row(self, example: Example, seen: Sequence[Seen], text: str) -> tuple[Row, int]:
        asked = self._reader.row(seen, text)
        if self._form is None:
            return asked, 0
        return self._reader.answered(asked, example.answer(self._form), *example.next)

    def _size(self, example: Example) -> tuple[int, int, int, int]:
        """Tokens, frames and patches of the room of an example, and tokens of its answer."""
        rows = [self._clips.index.iloc[number] for number in example.clips]
        seen, frames = [], 0
        for row in rows:
            frames = len(shown_frames(int(row["frames"]), self._frames))
            seen += self._blank(frames, int(row["height"]), int(row["width"]))
        text = example.question.about(rows[0]["prompt"], frames)
        try:
            row, said = self._row(example, seen, text)
        except ValueError as error:
            names = " and ".join(map(str, self._clips.index.index[list(example.clips)]))
            raise ValueError(f"clip {names}: {error}") from error
        patches = max(pixels.shape[1] for _, pixels in seen)
        answer = _of_answer(said) if said else 0
        grids = sum(media.grid[0] for media, _ in seen)
        return _padded(len(row.tokens), _TOKENS), grids, patches, answer


def graded(
    said: Preferences,
    clips: SeenClips,
    questions: Mapping[str, Sequence[Question]],
    bounds: tuple[float, float],
) -> list[Example]:
    """Returns what a judge is to say of single clips whose ratings are known (IPO's pointwise).

    Args:
        said: the scores; of several of a clip the mean counts, and the first rationale.
        clips: the clips.
        questions: by dimension, one each, which words of `VERDICTS` or `GRADES` answer.
        bounds: see `config.judge.Critic.grades`.

    Raises:
        ValueError: a dimension of several questions, whose answers no rating tells.
    """
    ratings = clip_ratings(said, tuple(questions)).reindex(clips.index.index)
    reasons = _rationales(said.scores, ["clip", "dimension"])
    found = []
    for dimension, asked in questions.items():
        if len(asked) != 1:
            raise ValueError(
                f"{dimension} has {len(asked)} questions, and a rating answers one: "
                "set reward.vlm_judge.graded=grades"
            )
        for number, rating in enumerate(ratings[dimension]):
            if not np.isnan(rating):
                word = word_of(asked[0], float(rating), bounds)
                reason = reasons.get((clips.index.index[number], dimension), "")
                found.append(Example((number,), asked[0], word, reason))
    return found


def compared(
    said: Preferences,
    clips: SeenClips,
    questions: Mapping[str, Question],
    *,
    most: int,
    rng: np.random.Generator,
) -> list[Example]:
    """Returns what a judge is to say of pairs with a winner (IPO's pairwise).

    A rationale goes with a pair that is shown in the order in which the file has it.

    Args:
        said: the comparisons.
        clips: the clips.
        questions: by dimension; words of `BETTER` answer them.
        most: number of examples, drawn by chance where there are more.
        rng: which those are, and which clip of a pair is shown first.
    """
    table = pair_labels(said, tuple(questions))
    there = table["clip_a"].isin(clips.index.index) & table["clip_b"].isin(clips.index.index)
    table = table[there]
    reasons = _rationales(said.comparisons, ["clip_a", "clip_b", "dimension"])
    first, second = BETTER
    number = clips.index.index.get_loc
    found = []
    for dimension, question in questions.items():
        decided = table[table[dimension].isin([Preference.A, Preference.B])]
        for a, b, label in decided[["clip_a", "clip_b", dimension]].itertuples(index=False):
            shown = (a, b) if rng.random() < 0.5 else (b, a)
            winner = a if label == Preference.A else b
            word = first if shown[0] == winner else second
            reason = reasons.get((*shown, dimension), "")
            found.append(Example(tuple(map(number, shown)), question, word, reason))
    chosen = sorted(rng.permutation(len(found))[:most].tolist())
    return [found[i] for i in chosen]


def criticised(
    examples: Sequence[Example], question: str, rng: np.random.Generator
) -> list[Example]:
    """Returns what a judge is to say when it is asked whether its reasoning supports its word.

    Half of the answers are the right ones, the others have the reason or the word of another
    example with another word.

    Args:
        examples: with reasons.
        question: what is asked, see `data/judge_templates/supported.txt`.
        rng: which of them are wrong, and how.
    """
    yes, no = YES_NO
    found = []
    for example in examples:
        other = examples[int(rng.integers(len(examples)))]
        wrong = rng.random() < 0.5 and other.word != example.word
        wrong = wrong and other.reason != example.reason and other.question.words == GRADES
        told = example
        if wrong and rng.random() < 0.5:
            told = dataclasses.replace(example, reason=other.reason)
        elif wrong:
            told = dataclasses.replace(example, word=other.word)
        found.append(dataclasses.replace(told, next=(question, no if wrong else yes)))
    return found


def word_of(question: Question, rating: float, bounds: tuple[float, float]) -> str:
    """Returns the word of a question, of two or three, that a rating stands for.

    Args:
        question: its words may stand in any order.
        rating: of a clip.
        bounds: ratings between which the middle one of three words lies; of two words, the mean
            of both is the border.
    """
    words = sorted(question.words, key=lambda word: question.words[word])
    low, high = bounds
    if len(words) == 2:
        return words[int(rating > (low + high) / 2)]
    return words[int(rating >= low) + int(rating > high)]


def _rationales(table: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], str]:
    """The first rationale of every key that has one."""
    given = table[table["rationale"].str.strip() != ""]
    return given.groupby(list(keys))["rationale"].first().str.strip().to_dict()


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
