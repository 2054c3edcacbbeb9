"""The texts of data/ that vision-language models are asked with as judges."""

from collections.abc import Sequence
from pathlib import Path

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.config.vlm_judge import REASONED, WORDS
from vidpref.rewards.questions import (
    Question,
    better_question,
    checklist,
    grade_question,
    hierarchy_question,
    reasoned_question,
    verdict_question,
)
from vidpref.storage.copies import here

_DATA = PROJECT_ROOT / "data"
TEMPLATES = _DATA / "judge_templates"
ONE_WORD = _DATA / "one_word_templates"  # asked for a word and nothing else


def text(name: str, folder: Path = TEMPLATES) -> str:
    """Returns a text.

    Raises:
        ValueError: there is none.
    """
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{folder} has no {name}, a text that the judge is asked with")
    return path.read_text()


def texts(name: str, folder: Path = TEMPLATES) -> dict[str, str]:
    """Returns the texts of a folder by dimension."""
    return {path.stem: path.read_text() for path in (folder / name).glob("*.txt")}


def folders(given: str) -> tuple[Path, Path]:
    """Returns the folder of texts that ask for an answer, and that of texts that ask for a word.

    Args:
        given: one folder for both, or its name in data/; "" for those of vidpref.

    Raises:
        ValueError: there is no such folder.
    """
    if not given:
        return TEMPLATES, ONE_WORD
    for path in (here(given), _DATA / given):
        if path.is_dir():
            return path, path
    raise ValueError(f"templates={given!r}: no such folder, nor in {_DATA}")


def asked(
    dimensions: Sequence[str], answers: str, graded: str, given: str = ""
) -> dict[str, list[Question]]:
    """Returns what a model is asked, by dimension.

    Args:
        dimensions: what is scored.
        answers, graded, given: see `config.vlm_judge.VlmJudge`; `given` is `templates`. A remote
            model's answers are "words".

    Raises:
        ValueError: a dimension that no text is about, or no such folder.
    """
    return {name: _of(name, answers, graded, folders(given)) for name in dimensions}


def compared(dimensions: Sequence[str], given: str = "") -> dict[str, Question]:
    """Returns which of two clips is better, by dimension; "accept" has no such question.

    Args:
        dimensions, given: as of `asked`.

    Raises:
        ValueError: see `asked`.
    """
    whole, _ = folders(given)
    template, about = text("better.txt", whole), texts("dimensions", whole)
    return {n: better_question(n, template, about) for n in dimensions if n != "accept"}


def hierarchy(dimensions: Sequence[str], given: str = "") -> Question:
    """Returns which of two clips is better, with all dimensions before.

    Args:
        dimensions, given: as of `asked`.

    Raises:
        ValueError: see `asked`.
    """
    return hierarchy_question(dimensions, text("hierarchy.txt", folders(given)[0]))


def _of(dimension: str, answers: str, graded: str, places: tuple[Path, Path]) -> list[Question]:
    whole, one_word = places
    if dimension == "accept":
        return [verdict_question(text("accept_reject.txt", whole))]
    if graded == "checklists":
        return checklist(dimension, text("yes_no.txt", one_word), texts("checklists", one_word))
    about = texts("dimensions", whole)
    if answers == REASONED:
        return [reasoned_question(dimension, text("reasoned.txt", whole), about)]
    # behind a reason, no word could be read off the model
    words = answers == WORDS
    template = text("good_normal_poor.txt", whole) if words else text("grade.txt", one_word)
    return [grade_question(dimension, template, about)]
