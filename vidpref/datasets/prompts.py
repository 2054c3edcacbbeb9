"""Prompt sets: text, category and split of each, from CSV."""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.csv_text import read_csv

CATEGORIES = {
    "OR": "object removal",
    "MO": "multiple objects",
    "DO": "deformable object",
    "DM": "directional movement",
    "FD": "falling down",
}
SPLITS = ("train", "validation", "test")
_COLUMNS = ("category", "split", "number", "prompt")
_DIGITS = 9  # of a number; a longer one is damage


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt of a set.

    Attributes:
        id: unique in its set, e.g. "OR-train-01".
        text: the prompt.
        category: a key of `CATEGORIES`; of other sets, their own.
        split: "train", "validation" or "test".
    """

    id: str
    text: str
    category: str
    split: str


def load_prompts(path: str | os.PathLike) -> list[Prompt]:
    """Reads a CSV with the columns category, split, number and prompt.

    The same text may stand under several numbers (it does in AIF's set); an id may not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: all of `read_csv`; a category, split or number is unknown; a number occurs twice
            in its category and split; a text is empty or has a line break. Names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such prompt set")
    prompts: dict[str, Prompt] = {}
    for where, row in read_csv(path, _COLUMNS)[1]:
        prompt = _prompt(row, where)
        if prompt.id in prompts:
            raise ValueError(f"{where}: {prompt.id} occurs twice")
        prompts[prompt.id] = prompt
    if not prompts:
        raise ValueError(f"{path}: no prompt")
    return list(prompts.values())


def with_validation(prompts: Sequence[Prompt], fraction: float, seed: int) -> list[Prompt]:
    """Moves a part of the train prompts to the split "validation", evenly over the categories.

    Prompts of the same text move together, so that none is trained on and validated on.

    Args:
        prompts: prompts in the order in which they are returned.
        fraction: fraction of each category's train texts, rounded to the nearest count.
        seed: seed of the choice.

    Raises:
        ValueError: the fraction is not in [0, 1).
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation_fraction={fraction} must be in [0, 1)")
    texts: dict[str, list[str]] = defaultdict(list)
    for text, category in {p.text: p.category for p in prompts if p.split == "train"}.items():
        texts[category].append(text)
    rng = np.random.default_rng(seed)
    chosen = set()
    for _, group in sorted(texts.items()):
        chosen.update(group[i] for i in rng.permutation(len(group))[: round(fraction * len(group))])
    return [
        dataclasses.replace(p, split="validation") if p.split == "train" and p.text in chosen else p
        for p in prompts
    ]


def _prompt(row: dict[str, str], where: str) -> Prompt:
    category, split = row["category"].strip(), row["split"].strip()
    for name, value, known in (("category", category, CATEGORIES), ("split", split, SPLITS)):
        if value not in known:
            hint = nearest(value, known, most=1)
            raise ValueError(f"{where}: unknown {name} {value!r} ({hint})")
    number, text = row["number"].strip(), row["prompt"].strip()
    if not number.isdecimal() or len(number) > _DIGITS:
        raise ValueError(f"{where}: number {number!r} is not a number")
    if not text:
        raise ValueError(f"{where}: the prompt is empty")
    if "\n" in text:
        raise ValueError(f"{where}: the prompt goes on in the next line ({text[:60]!r})")
    return Prompt(f"{category}-{split}-{int(number):02d}", text, category, split)
