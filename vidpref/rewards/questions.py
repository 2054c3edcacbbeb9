"""What a vision-language model is asked about a clip, and how its answers are read.

"accept" is one word, Accept or Reject (AIF 3.3). Other dimensions are graded Good, Normal or Poor
(the pointwise form of IPO's critic), or are checklists of yes/no questions (VisionReward), of which
the mean counts.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.rewards.reward import Judgement
from vidpref.typing import Int

VERDICTS = {"Accept": 1.0, "Reject": 0.0}
GRADES = {"Good": 1.0, "Normal": 0.5, "Poor": 0.0}
YES_NO = {"Yes": 1.0, "No": 0.0}
BETTER = {"First": 1.0, "Second": 0.0}
EQUAL = "Equal"  # of two clips in one dimension

Answer = tuple[float | None, str]  # (what it is worth, the words), or (None, what is wrong)


@dataclasses.dataclass(frozen=True)
class Question:
    """One question about a clip.

    Attributes:
        text: the question, with `{prompt}` and, if it likes, `{frames}`.
        words: what each word that it may be answered by is worth, in [0, 1].
        read: what an answer is worth; raises ValueError where that is not clear.
        end: what closes an answer; a judge may go on behind it. "" where nothing does.
    """

    text: str
    words: Mapping[str, float]
    read: Callable[[str], float]
    end: str = ""

    def heard(self, said: str) -> str:
        """Returns what a judge said up to the end of the first answer in it."""
        answer, end, _ = said.partition(self.end) if self.end else (said, "", "")
        return (answer + end).strip()

    def about(self, prompt: str, frames: int) -> str:
        """Returns the question about a clip of which so many frames are shown."""
        # no str.format: prompts and templates may hold other braces
        return self.text.replace("{frames}", str(frames)).replace("{prompt}", prompt)


def verdict_question(template: str) -> Question:
    """Returns the question of "accept".

    Raises:
        ValueError: a template without `{prompt}`.
    """
    return Question(_with_prompt(template, "accept"), VERDICTS, parse_verdict)


def grade_question(dimension: str, template: str, descriptions: Mapping[str, str]) -> Question:
    """Returns the question of a graded dimension.

    Args:
        dimension: its name.
        template: with `{prompt}`, `{description}` and, if it likes, `{dimension}`.
        descriptions: by dimension, what is looked at and what the grades mean.

    Raises:
        ValueError: a dimension without a description, or a template without its places.
    """
    return Question(_described(dimension, template, descriptions), GRADES, parse_grade)


def reasoned_question(dimension: str, template: str, descriptions: Mapping[str, str]) -> Question:
    """Returns the question of a graded dimension that is answered in McSc's form.

    Args:
        dimension, template, descriptions: as of `grade_question`.

    Raises:
        ValueError: see `grade_question`.
    """
    text = _described(dimension, template, descriptions)
    return Question(
        text, GRADES, lambda answer: parse_grade(parse_reasoned(answer)[1]), end="</answer>"
    )


def better_question(dimension: str, template: str, descriptions: Mapping[str, str]) -> Question:
    """Returns the question which of two clips, shown one after the other, is better.

    Args:
        dimension, descriptions: as of `grade_question`.
        template: likewise; `{frames}` is the number of frames of each clip.

    Raises:
        ValueError: see `grade_question`.
    """
    return Question(_described(dimension, template, descriptions), BETTER, parse_better)


def checklist(dimension: str, template: str, checklists: Mapping[str, str]) -> list[Question]:
    """Returns the questions of a dimension.

    Args:
        dimension: its name.
        template: with `{prompt}` and `{question}`.
        checklists: by dimension, yes/no questions, a line each; a yes is good.

    Raises:
        ValueError: a dimension without questions, or a template without its places.
    """
    _check_known(dimension, checklists)
    lines = [line.strip() for line in checklists[dimension].splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"the checklist of {dimension} has no question")
    if "{question}" not in template:
        raise ValueError("the judge's template of checklists has no {question}")
    texts = [_with_prompt(template.replace("{question}", line), dimension) for line in lines]
    return [Question(text, YES_NO, parse_yes_no) for text in texts]


def parse_verdict(answer: str) -> float:
    """Reads Accept (1.0) or Reject (0.0) out of an answer.

    Raises:
        ValueError: it is not clear which.
    """
    # "accepted" and "rejecting" count, "unacceptable" does not
    words = set(re.findall(r"\b(accept|reject)(?:s|ed|ing)?\b", answer.lower()))
    negated = re.search(r"\b(not|never|cannot)\b|n['’]t\b", answer.lower())
    if negated or len(words) != 1:
        raise ValueError(f"neither Accept nor Reject: {answer[:200]!r}")
    return VERDICTS[words.pop().capitalize()]


def parse_grade(answer: str) -> float:
    """Reads the Good (1.0), Normal (0.5) or Poor (0.0) that an answer ends in.

    The word must stand for itself, after the end of a line or sentence or a colon: a reason may
    well end in "is not good".

    Raises:
        ValueError: the answer ends otherwise.
    """
    return _last(answer, GRADES, "Good, Normal or Poor")


def parse_better(answer: str) -> float:
    """Reads the First (1.0) or Second (0.0) that an answer ends in, as `parse_grade` does.

    Raises:
        ValueError: the answer ends otherwise.
    """
    return _last(answer, BETTER, "First or Second")


def parse_reasoned(answer: str) -> tuple[str, str]:
    """Reads reasoning and answer of `<think>...</think><answer>...</answer>` (McSc 4.1).

    Raises:
        ValueError: the answer has another form, or one of the two is empty.
    """
    found = re.fullmatch(
        r"\s*<think>\s*(.*?\S)\s*</think>\s*<answer>\s*(.*?\S)\s*</answer>\s*", answer, re.DOTALL
    )
    if found is None or any("<" in part for part in found.groups()):
        raise ValueError(f"is not <think>...</think><answer>...</answer>: {answer[:200]!r}")
    return found.group(1), found.group(2)


def reasoned(reason: str, word: str) -> str:
    """Returns an answer that `parse_reasoned` reads."""
    return f"<think>{reason}</think><answer>{word}</answer>"


def hierarchy_question(dimensions: Sequence[str], template: str) -> Question:
    """Returns the question which of two clips is better, all dimensions before (McSc 4.2).

    Args:
        dimensions: their names.
        template: with `{prompt}`, `{dimensions}` and, if it likes, `{frames}`, of each clip.

    Raises:
        ValueError: a template without its places.
    """
    if "{dimensions}" not in template:
        raise ValueError("the judge's template of comparisons has no {dimensions}")
    names = ", ".join(name.replace("_", " ") for name in dimensions)
    text = _with_prompt(template.replace("{dimensions}", names), "hierarchy")
    return Question(text, BETTER, lambda answer: parse_better(_final(answer)))


def dimension_blocks(answer: str, dimensions: Sequence[str]) -> dict[str, str]:
    """Returns, of the dimensions that an answer has a `<dim>name: ...</dim>` for, the word each
    block ends in, First, Second or Equal; "" where it ends otherwise.

    Args:
        answer: what was said.
        dimensions: their names; of several blocks of one the first counts.
    """
    found: dict[str, str] = {}
    names = {name.replace("_", " "): name for name in dimensions}
    for name, told in re.findall(r"<dim>\s*([^:<]*?)\s*:([^<]*)</dim>", answer):
        if (own := names.get(name.lower())) and own not in found:
            word = re.search(rf"({'|'.join((*BETTER, EQUAL))})\W*$", told, re.IGNORECASE)
            found[own] = word.group(1).capitalize() if word else ""
    return found


def hierarchical(words: Mapping[str, str], better: str) -> str:
    """Returns an answer to a `hierarchy_question`: a block a dimension, then the better clip."""
    blocks = (f"<dim>{name.replace('_', ' ')}: {word}</dim>" for name, word in words.items())
    return f"{''.join(blocks)}<answer>{better}</answer>"


def _final(answer: str) -> str:
    found = re.search(r"<answer>\s*([^<]*?)\s*</answer>\s*$", answer)
    if found is None:
        raise ValueError(f"does not end in <answer>...</answer>: {answer[-200:]!r}")
    return found.group(1)


def parse_yes_no(answer: str) -> float:
    """Reads the Yes (1.0) or No (0.0) that an answer begins with.

    Raises:
        ValueError: it begins otherwise.
    """
    found = re.match(r"\W*(yes|no)\b", answer.lower())
    if found is None:
        raise ValueError(f"does not begin with Yes or No: {answer[:200]!r}")
    return YES_NO[found.group(1).capitalize()]


def shown_frames(count: int, most: int) -> Int[np.ndarray, " n"]:
    """Returns the numbers of the frames that a judge is shown, evenly spaced from first to last.

    Args:
        count: frames of the clip.
        most: frames that are shown at most.
    """
    return np.round(np.linspace(0, count - 1, min(most, count))).astype(int)


def together(answers: Sequence[Answer]) -> Answer:
    """Returns the answers to all questions of a dimension as one: their mean, and a line each."""
    unclear = [words for worth, words in answers if worth is None]
    if unclear:
        of = f"{len(unclear)} of {len(answers)} questions: " if len(answers) > 1 else ""
        return None, of + "; ".join(unclear)
    worth = [worth for worth, _ in answers if worth is not None]
    return sum(worth) / len(worth), "\n".join(words for _, words in answers)


def judgement_of(dimensions: Sequence[str], answers: Sequence[Mapping[str, Answer]]) -> Judgement:
    """Returns what was answered about clips, as a judgement.

    The reasons are the model's words: the answer or, of several dimensions, all of them under
    their names. A clip without a clear answer in a dimension is a failure; its other dimensions
    keep their scores.

    Args:
        dimensions: what is scored.
        answers: of each clip, by dimension, (score, the answer) or (None, what went wrong).
    """
    lost = [
        "; ".join(f"{name}: {words}" for name, (score, words) in own.items() if score is None)
        for own in answers
    ]
    return Judgement(
        scores={
            name: np.array([own[name][0] for own in answers], np.float32)  # None: nan
            for name in dimensions
        },
        reasons=[_reason(own) for own in answers],
        failures={row: words for row, words in enumerate(lost) if words},
    )


def _reason(answers: Mapping[str, Answer]) -> str:
    if len(answers) == 1:
        return next(iter(answers.values()))[1]
    return "\n\n".join(f"{name}: {words.strip()}" for name, (_, words) in answers.items())


def _last(answer: str, words: Mapping[str, float], said: str) -> float:
    """What the word is worth that stands for itself at the end of an answer."""
    known = "|".join(word.lower() for word in words)
    found = re.search(rf"(?:^|[\n.!?:;])[^\w\n]*({known})\W*$", answer.strip().lower())
    if found is None:
        raise ValueError(f"does not end in {said}: {answer[-200:]!r}")
    return words[found.group(1).capitalize()]


def _described(dimension: str, template: str, descriptions: Mapping[str, str]) -> str:
    """A template with its dimension and what that is."""
    _check_known(dimension, descriptions)
    text = template.replace("{dimension}", dimension.replace("_", " "))
    if "{description}" not in text:
        raise ValueError("the judge's template of graded dimensions has no {description}")
    text = text.replace("{description}", descriptions[dimension].strip())
    return _with_prompt(text, dimension)


def _with_prompt(text: str, dimension: str) -> str:
    if "{prompt}" not in text:
        raise ValueError(f"the judge's template of {dimension} has no {{prompt}}")
    return text


def _check_known(dimension: str, texts: Mapping[str, str]) -> None:
    if dimension not in texts:
        hint = nearest(dimension, ["accept", *sorted(texts)])
        raise ValueError(f"the judge has no dimension {dimension!r}; {hint}")
