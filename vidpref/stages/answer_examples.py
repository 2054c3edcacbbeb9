"""What a judge is asked about clips, and what is right to say, of what people said of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from vidpref.config.vlm_judge import PROBABILITIES, REASONED
from vidpref.datasets.preferences import OVERALL, Preferences
from vidpref.datasets.preferences.labels import clip_ratings, pair_labels
from vidpref.objectives.preference import Preference
from vidpref.rewards.questions import (
    BETTER,
    EQUAL,
    GRADES,
    VERDICTS,
    YES_NO,
    Question,
    hierarchical,
    reasoned,
)
from vidpref.stages.judge_rows import SeenClips

Bounds = tuple[float, float]

_SIGN = {Preference.A: 1, Preference.B: -1}


@dataclasses.dataclass(frozen=True)
class Example:
    """What a judge is asked, and what is right.

    Attributes:
        clips: numbers of the clip, or of the two, in `SeenClips.index`.
        question: what is asked.
        word: the right one of its words.
        reason: why, where somebody said so.
        next: what is asked behind the answer, and what is right then; () for nothing.
        dimensions: of a `hierarchy_question`, the right word of each; () for other questions.
        more: what is asked about the same clips in the same conversation, and learnt like this;
            () for nothing.
    """

    clips: tuple[int, ...]
    question: Question
    word: str
    reason: str = ""
    next: tuple[str, ...] = ()
    dimensions: tuple[tuple[str, str], ...] = ()
    more: tuple["Example", ...] = ()

    def answer(self, form: str) -> str:
        """Returns what the judge is to say, in a form of `config.vlm_judge.VlmJudge.answers`.

        A verdict is one word, whatever the form, and so is a grade without a reason.
        """
        if self.dimensions:
            return hierarchical(dict(self.dimensions), self.word)
        if form == REASONED and self.question.words == GRADES and self.reason:
            return reasoned(self.reason, self.word)
        if form == PROBABILITIES or self.question.words == VERDICTS or not self.reason:
            return self.word
        return f"{self.reason}\n{self.word}"


def graded(
    said: Preferences,
    clips: SeenClips,
    questions: Mapping[str, Sequence[Question]],
    bounds: Mapping[str, Bounds],
) -> list[Example]:
    """Returns what a judge is to say of single clips whose ratings are known (IPO's pointwise).

    Args:
        said: the scores; of several of a clip the mean counts, and the first rationale.
        clips: the clips.
        questions: by dimension, one each, which words of `VERDICTS` or `GRADES` answer.
        bounds: by dimension, result of `bounds_of`.

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
                word = word_of(asked[0], float(rating), bounds[dimension])
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


def hierarchies(
    said: Preferences,
    clips: SeenClips,
    question: Question,
    dimensions: Sequence[str],
    *,
    most: int,
    rng: np.random.Generator,
) -> list[Example]:
    """Returns what a judge is to say of pairs in all dimensions, and as a whole (McSc 4.2).

    As a whole the better clip is that of the verdict on "overall"; where nobody gave one, that
    which is better in more of the dimensions. Pairs without a better one are left out.

    Args:
        said: the comparisons.
        clips: the clips.
        question: what is asked, see `hierarchy_question`.
        dimensions: those of the question.
        most, rng: as of `compared`.
    """
    table = pair_labels(said, (*dimensions, OVERALL))
    there = table["clip_a"].isin(clips.index.index) & table["clip_b"].isin(clips.index.index)
    number, (first, second) = clips.index.index.get_loc, BETTER
    found = []
    for row in table[there].to_dict("records"):
        swap = rng.random() < 0.5
        turn = -1 if swap else 1
        known = [name for name in dimensions if row[name] != Preference.INVALID]
        signs = {name: turn * _SIGN.get(row[name], 0) for name in known}
        whole = turn * _SIGN.get(row[OVERALL], 0) or np.sign(sum(signs.values()))
        if not whole:
            continue
        word = {1: first, -1: second, 0: EQUAL}
        shown = (row["clip_b"], row["clip_a"]) if swap else (row["clip_a"], row["clip_b"])
        each = tuple((name, word[int(sign)]) for name, sign in signs.items())
        example = Example(tuple(map(number, shown)), question, word[int(whole)], dimensions=each)
        found.append(example)
    chosen = sorted(rng.permutation(len(found))[:most].tolist())
    return [found[i] for i in chosen]


def together(examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
    """Returns one example of all that is asked about the same clips, in an order by chance.

    A clip is read once for all its answers. Asked alone, a question is one that came first.

    Args:
        examples: of single questions.
        rng: the orders.
    """
    by_clips: dict[tuple[int, ...], list[Example]] = {}
    for example in examples:
        by_clips.setdefault(example.clips, []).append(example)
    found = []
    for own in by_clips.values():
        first, *more = (own[i] for i in rng.permutation(len(own)))
        found.append(dataclasses.replace(first, more=tuple(more)))
    return found


def turned(examples: Sequence[Example]) -> list[Example]:
    """Returns the same pairs in the other order, with what is right then."""
    other = dict(zip(BETTER, reversed(BETTER), strict=True)) | {EQUAL: EQUAL}
    return [
        dataclasses.replace(
            example,
            clips=example.clips[::-1],
            word=other[example.word],
            reason="",
            dimensions=tuple((name, other[word]) for name, word in example.dimensions),
        )
        for example in examples
    ]


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


def bounds_of(
    said: Preferences, questions: Mapping[str, Sequence[Question]], section: ConfigDict
) -> dict[str, Bounds]:
    """Returns the ratings between which the middle one of three words lies, by dimension.

    Args:
        said: the scores that are learnt from.
        questions: by dimension, one each.
        section: `judge.critic`.
    """
    given = (float(section.grades[0]), float(section.grades[1]))
    ratings = clip_ratings(said, tuple(questions))
    found = dict.fromkeys(questions, given)
    for dimension, asked in questions.items():
        known = ratings[dimension].dropna()
        if section.thirds and len(known) and asked[0].words == GRADES:
            low, high = np.quantile(known, [1 / 3, 2 / 3])
            found[dimension] = (float(low), float(high))
    return found


def word_of(question: Question, rating: float, bounds: Bounds) -> str:
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
