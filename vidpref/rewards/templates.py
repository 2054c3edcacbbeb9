"""The texts of data/ that vision-language models are asked with as judges."""

from collections.abc import Sequence
from pathlib import Path

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.rewards.questions import Question, checklist, grade_question, verdict_question

TEMPLATES = PROJECT_ROOT / "data" / "judge_templates"
ONE_WORD = PROJECT_ROOT / "data" / "one_word_templates"  # asked for a word and nothing else


def text(name: str, folder: Path = TEMPLATES) -> str:
    """Returns a text."""
    return (folder / name).read_text()


def texts(name: str, folder: Path = TEMPLATES) -> dict[str, str]:
    """Returns the texts of a folder by dimension."""
    return {path.stem: path.read_text() for path in (folder / name).glob("*.txt")}


def asked(dimensions: Sequence[str], answers: str, graded: str) -> dict[str, list[Question]]:
    """Returns what a local model is asked, by dimension.

    Args:
        dimensions: what is scored.
        answers, graded: see `config.vlm_judge.VlmJudge`.

    Raises:
        ValueError: a dimension that no text is about.
    """
    return {name: _of(name, answers, graded) for name in dimensions}


def _of(dimension: str, answers: str, graded: str) -> list[Question]:
    if dimension == "accept":
        return [verdict_question(text("accept_reject.txt"))]
    if graded == "checklists":
        return checklist(dimension, text("yes_no.txt", ONE_WORD), texts("checklists", ONE_WORD))
    # behind a reason, no word could be read off the model
    whole = answers == "words"
    template = text("good_normal_poor.txt") if whole else text("grade.txt", ONE_WORD)
    return [grade_question(dimension, template, texts("dimensions"))]
