"""Prompts to compare generators on: sets that come with vidpref, and files in the suites' layouts.

A file is text with a prompt a line (EvalCrafter, the dimensions of VBench and of T2V-CompBench); a
table with a column prompt (VideoAlign's sets, VideoGen-RewardBench, T2V-CompBench's meta_data), or
prompt_en and dimension as VBench's full_info.json has them. A folder is its files, each a category.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.datasets.benchmarks.records import SUFFIXES, read_records
from vidpref.datasets.prompts import Prompt
from vidpref.storage.copies import here
from vidpref.text_files import read_text

PROMPTS = PROJECT_ROOT / "data" / "prompts"
_TEXT = ("prompt", "prompt_en", "caption", "text")  # columns of the text, the first that is there
_CATEGORY = ("category", "dimension")
_SPLIT = "split"


@dataclasses.dataclass(frozen=True)
class NamedSet:
    """A set of data/prompts.

    Attributes:
        file: its file there.
        text: column of the texts.
        split: the one that counts; "" for all.
    """

    file: str
    text: str = "prompt"
    split: str = ""


SETS = {
    "aif": NamedSet("something_something_v2.csv"),
    "aif_train": NamedSet("something_something_v2.csv", split="train"),
    "aif_test": NamedSet("something_something_v2.csv", split="test"),
    "ta_hard": NamedSet("ta_hard.csv"),
    "vbench": NamedSet("vbench.csv"),
    "vbench_short": NamedSet("vbench.csv", text="prompt_shorter"),
    "videogen_eval": NamedSet("videogen_eval.csv"),
    "videogen_eval_short": NamedSet("videogen_eval.csv", text="prompt_shorter"),
}


@dataclasses.dataclass(frozen=True)
class PromptSet:
    """Different prompts.

    Attributes:
        name: as it was asked for.
        prompts: each text once, where it stands first. An id is made of the text alone, so that a
            prompt has one noise in every set.
        repeated: how many more there were of a text that is among them.
    """

    name: str
    prompts: tuple[Prompt, ...]
    repeated: int = 0

    def __str__(self) -> str:
        told = f"{self.name}: {len(self.prompts)} prompts"
        return f"{told} ({self.repeated} more are repeated)" if self.repeated else told

    def first(self, count: int) -> "PromptSet":
        """Returns the set with `count` of its prompts, in their order; 0 or too many: all.

        Which they are is drawn by a hash of their texts: a smaller choice is part of a larger one.
        """
        if not 0 < count < len(self.prompts):
            return self
        chosen = {prompt.id for prompt in sorted(self.prompts, key=lambda p: p.id)[:count]}
        kept = tuple(prompt for prompt in self.prompts if prompt.id in chosen)
        name = f"{self.name}, {count} of {len(self.prompts)}"
        return PromptSet(name, kept, self.repeated)


def read_prompt_set(place: str | os.PathLike) -> PromptSet:
    """Returns the prompts of a set's name, of a file, or of all files of a folder.

    Args:
        place: a key of `SETS`; a text file with a prompt a line, empty ones not counted; a table
            (CSV, JSON, JSON lines, Parquet); or a folder of files of one kind, whose names are the
            categories.

    Raises:
        ValueError: neither a name nor a file, no prompt, a table without a column of prompts, a
            prompt that is empty or has a line break, and all of `read_text` and `read_records`.
    """
    if str(place) in SETS:
        known = SETS[str(place)]
        rows = _table(PROMPTS / known.file, (known.text,), known.split)
    else:
        rows = _place(str(place))
    prompts: dict[str, Prompt] = {}
    count = 0
    for where, text, category in rows:
        count += 1
        text = text.strip()
        if not text:
            raise ValueError(f"{where}: the prompt is empty")
        if "\n" in text:
            raise ValueError(f"{where}: the prompt goes on in the next line ({text[:60]!r})")
        prompts.setdefault(text, Prompt(prompt_id(text), text, category, "test"))
    if not prompts:
        raise ValueError(f"{place}: no prompt")
    return PromptSet(str(place), tuple(prompts.values()), count - len(prompts))


def prompt_id(text: str) -> str:
    """Returns 12 hex digits that a text has in every set."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


Rows = Iterator[tuple[str, str, str]]  # where it stands, text, category


def _place(name: str) -> Rows:
    path = here(name)
    if path.is_dir():
        yield from _folder(path)
    elif path.is_file():
        yield from _file(path)
    else:
        raise ValueError(
            f"{name}: no such file or folder, and no set of this name; the sets are "
            + ", ".join(SETS)
        )


def _folder(folder: Path) -> Rows:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".txt", *SUFFIXES))
    kinds = sorted({path.suffix for path in files})
    if len(kinds) != 1:
        held = " and ".join(kinds) or "neither .txt nor tables"
        raise ValueError(f"{folder}: wanted prompt files of one kind, it has {held}; name one file")
    for path in files:
        yield from _file(path, path.stem)


def _file(path: Path, category: str = "") -> Rows:
    if path.suffix.lower() in SUFFIXES:
        yield from _table(path, _TEXT, category=category)
        return
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line, category


def _table(path: Path, columns: tuple[str, ...], split: str = "", category: str = "") -> Rows:
    for where, row in read_records(path):
        there = row if isinstance(row, dict) else {}
        name = next((name for name in columns if name in there), None)
        if name is None or not isinstance(there[name], str):
            what = f"it has {', '.join(there)}" if name is None else f"{name} is no text"
            raise ValueError(f"{where}: no {' or '.join(columns)}; {what or 'it is no object'}")
        if split and there.get(_SPLIT) != split:
            continue
        yield where, there[name], category or _category(there)


def _category(row: dict[str, Any]) -> str:
    found = next((row[name] for name in _CATEGORY if row.get(name)), "")
    return " + ".join(map(str, found)) if isinstance(found, list) else str(found).strip()
