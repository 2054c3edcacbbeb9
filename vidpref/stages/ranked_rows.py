"""Training rows of a judge that learns to grade two clips of a prompt in their order."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vidpref.datasets.preferences import Preferences
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.image_questions import ImageQuestions, first_tokens
from vidpref.losses.ranked_answers import Scale
from vidpref.objectives.preference import Preference
from vidpref.rewards.questions import GRADES, VERDICTS
from vidpref.stages.answer_examples import Example
from vidpref.stages.answer_rows import AnswerRows, buckets
from vidpref.stages.judge_rows import SeenClips, compared
from vidpref.typing import Bool

_SCALES = (GRADES, VERDICTS)  # what single clips are graded by


@dataclasses.dataclass(frozen=True)
class RankedPair:
    """What is asked about each of two clips, and which is better.

    Attributes:
        examples: of both, the same questions in the same order; or any two without labels.
        labels: by question, numbers of `Preference`; () where nothing is compared.
    """

    examples: tuple[Example, Example]
    labels: tuple[int, ...] = ()


def ranked_pairs(
    said: Preferences,
    clips: SeenClips,
    graded: Sequence[Example],
    dimensions: Mapping[str, str],
    rng: np.random.Generator,
    *,
    most: int,
) -> list[RankedPair]:
    """Returns pairs that were compared, with all that both clips have grades for.

    Args:
        said: the comparisons.
        clips: the clips.
        graded: the examples of single questions about single clips.
        dimensions: by the text of a question, its dimension.
        rng: which pairs, and the order of the questions in each.
        most: number of pairs, drawn by chance where there are more.
    """
    names = tuple(dict.fromkeys(dimensions.values()))
    by_clip: dict[int, dict[str, Example]] = {}
    for example in graded:
        by_clip.setdefault(example.clips[0], {})[dimensions[example.question.text]] = example
    numbers, labels = compared(said, clips, names)
    found = []
    for i in sorted(rng.permutation(len(numbers))[:most].tolist()):
        both = [by_clip.get(int(number), {}) for number in numbers[i]]
        shared = [k for k, name in enumerate(names) if all(name in own for own in both)]
        order = [shared[k] for k in rng.permutation(len(shared))]
        kept = tuple(int(labels[i, k]) for k in order)
        if any(label < Preference.INVALID for label in kept):
            asked = [[own[names[k]] for k in order] for own in both]
            first, second = (dataclasses.replace(own, more=tuple(others)) for own, *others in asked)
            found.append(RankedPair((first, second), kept))
    return found


def behind_reasons(
    pairs: Sequence[RankedPair], rng: np.random.Generator, *, most: int
) -> list[RankedPair]:
    """Returns pairs that are graded with reasons, a question a pair.

    Only clips of which the same reason is given are left: another one would give the order away,
    and it would be learnt from what is said of them, not by sight. Of those one is better: they are
    few, and ties would fill most rows.

    Args:
        pairs: result of `ranked_pairs`.
        rng: which of them.
        most: number of pairs, drawn by chance where there are more.
    """
    found = []
    for pair in pairs:
        asked = ((example, *example.more) for example in pair.examples)
        for first, second, label in zip(*asked, pair.labels, strict=True):
            same = first.reason and first.reason == second.reason
            if same and label < Preference.TIE:
                alone = (dataclasses.replace(own, more=()) for own in (first, second))
                found.append(RankedPair(tuple(alone), (label,)))
    return [found[i] for i in sorted(rng.permutation(len(found))[:most].tolist())]


def unpaired(graded: Sequence[Example], pairs: Sequence[RankedPair]) -> list[Example]:
    """Returns the examples about clips that are in no pair, whose grades are learnt alone."""
    paired = {example.clips for pair in pairs for example in pair.examples}
    return [example for example in graded if example.clips not in paired]


def two_by_two(examples: Sequence[Example]) -> list[RankedPair]:
    """Returns examples as pairs without labels; the first fills the last pair of an odd number."""
    padded = [*examples, *examples[: len(examples) % 2]]
    return [RankedPair((a, b)) for a, b in zip(padded[::2], padded[1::2], strict=True)]


def scales(tokens: ChatTokens) -> tuple[Scale, ...]:
    """Returns what the best and the worst word of each scale may begin with.

    Raises:
        ValueError: words that a tokenizer begins alike.
    """
    found = []
    for words in _SCALES:
        ids = first_tokens(tokens, words)
        best, worst = max(words, key=words.__getitem__), min(words, key=words.__getitem__)
        found.append((tuple(ids[best]), tuple(ids[worst])))
    return tuple(found)


class RankedRows:
    """A grain source of pairs, as `RankedAnswerLoss` takes them, without the batch axis.

    Args:
        clips: the clips.
        reader: how frames and questions are seen.
        pairs: what is asked.
        frames: of a clip that are shown at most.
        form: see `Example.answer`.
        dtype: type of the pixels.

    Attributes:
        shapes, rooms: as of `AnswerRows`.

    Raises:
        ValueError: an example that does not fit the model, or words that its tokenizer begins
            alike.
    """

    def __init__(
        self,
        clips: SeenClips,
        reader: ImageQuestions,
        pairs: Sequence[RankedPair],
        frames: int,
        form: str,
        dtype: str = "float32",
    ):
        flat = [example for pair in pairs for example in pair.examples]
        self._pairs = pairs
        self._rows = AnswerRows(clips, reader, flat, frames, form, dtype)
        self._tokens, self._form = reader.tokens, form
        self._most = max((len(pair.labels) for pair in pairs), default=0) or 1
        self.rooms, self.shapes = buckets(self._rows.sizes.reshape(-1, 2, 4).max(axis=1))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        pair = self._pairs[index]
        room, most = self.rooms[int(self.shapes[index])]
        both = [self._rows.arrays(2 * index + k, room, most) for k in (0, 1)]
        found = {name: np.stack([row[name] for row in both]) for name in both[0]}
        count = len(pair.labels)
        scale = np.zeros(self._most, np.int32)
        labels = np.full(self._most, Preference.INVALID, np.int32)
        at = np.zeros((2, self._most), np.int32)
        if count:
            first = pair.examples[0]
            turns = [one.question.words for one in (first, *first.more)]
            scale[:count] = [_SCALES.index(words) for words in turns]
            labels[:count] = pair.labels
            for k, (row, example) in enumerate(zip(both, pair.examples, strict=True)):
                at[k, :count] = self._places(row["said"], example)
        return {**found, "at": at, "scale": scale, "preference": labels}

    def _places(self, said: Bool[np.ndarray, " a"], example: Example) -> list[int]:
        """The place of each answer's word, with which it ends, among the last tokens of a row."""
        starts = np.flatnonzero(said & ~np.concatenate([[False], said[:-1]])).tolist()
        found = []
        for start, one in zip(starts, (example, *example.more), strict=True):
            text = one.answer(self._form)
            found.append(start + self._tokens.place(text, text.rindex(one.word)))
        return found
