"""Benchmarks of video judges, read into the one form of preferences; bad rows are counted.

Preference files that a generator learns from are read strictly (`datasets/preferences`): one bad
row and they are refused. A benchmark is as it was published, so here a row that cannot be used is
left out, by name.
"""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vidpref.config.nearest import nearest
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.benchmarks.layouts import BOTH_BAD, LAYOUTS, Layout
from vidpref.datasets.benchmarks.records import SUFFIXES, Record, read_records
from vidpref.datasets.preferences import LAYOUTS as STRICT
from vidpref.datasets.preferences import Preferences, read_preferences
from vidpref.datasets.preferences.collecting import Collector
from vidpref.storage.copies import here

BOTH_BAD_AS = ("tie", "drop")
MALFORMED = "malformed row"  # the reason of a row that names no two clips of a prompt


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Votes of people on pairs of clips.

    Attributes:
        preferences: clips and comparisons, one for each vote, "invalid" where its label is missing
            or unknown; `judge` is the number of the row, as several may have voted on a pair. The
            files of clips need not exist.
        layout: name of the layout; "preferences" for one of our own that was told by its file.
        skipped: rows that could not be used, and votes without a label: where, and why.
        left_out: reason -> number of votes that the file or the caller leaves out.
    """

    preferences: Preferences
    layout: str
    skipped: BadClips
    left_out: Mapping[str, int]


def read_benchmark(
    path: str | os.PathLike,
    layout: str = "auto",
    *,
    root: str | os.PathLike | None = None,
    both_bad: str = "tie",
) -> Benchmark:
    """Reads the votes of a benchmark, or a preference file of our own layouts.

    Args:
        path: the file.
        layout: a name of `LAYOUTS` or of `datasets.preferences`; "auto" tells by the fields.
        root: folder that paths of clips are relative to; the file's if None. Of a web address the
            part behind the host is taken, as far as it lies there.
        both_bad: whether a vote that both clips are bad is a "tie", or is left out ("drop").

    Raises:
        ValueError: an unknown layout, one that cannot be told, a file that cannot be read, or no
            row that can be used; all of `read_preferences` for our own layouts.
    """
    path = here(path)
    if both_bad not in BOTH_BAD_AS:
        raise ValueError(f"both_bad={both_bad!r}: known are {', '.join(BOTH_BAD_AS)}")
    known = ("auto", *LAYOUTS, *STRICT)
    if layout not in known:
        raise ValueError(f"no layout {layout!r}; {nearest(layout, known)}")
    strict = layout in STRICT or (layout == "auto" and not _is_table(path))
    rows = [] if strict else read_records(path)
    if layout == "auto":
        layout = layout_of(rows[0][1]) if rows else ""
    if rows and not layout and path.suffix.lower() == ".parquet":
        raise ValueError(
            f"{path}: its fields ({', '.join(map(str, rows[0][1]))}) are of none of the layouts "
            f"{', '.join(LAYOUTS)}"
        )
    if layout not in LAYOUTS:
        preferences = read_preferences(path, layout or "auto")
        told = layout if layout in STRICT else "preferences"
        return Benchmark(preferences, told, BadClips(), {})
    _check_columns(path, rows, LAYOUTS[layout])
    folder = path.parent if root is None else here(root)
    reader = _Reader(LAYOUTS[layout], folder, both_bad)
    for number, (where, record) in enumerate(rows):
        reader.add(where, number, record)
    if not reader.pairs:
        (where, _, why), *_ = reader.skipped.rows or [(str(path), "", "all rows are left out")]
        raise ValueError(f"{path}: none of its {len(rows)} rows can be used; {where}: {why}")
    return Benchmark(
        reader.collector.preferences(path, must_exist=False),
        layout,
        reader.skipped,
        dict(reader.left_out),
    )


def layout_of(record: Any) -> str:
    """Returns the layout that a row's fields are of, "" if they are of none."""
    names = set(record) if isinstance(record, dict) else set()
    return next((name for name, layout in LAYOUTS.items() if set(layout.paths) <= names), "")


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _check_columns(path: Path, rows: list[tuple[str, Any]], layout: Layout) -> None:
    """Refuses a file whose rows, all of them, lack what the layout needs."""
    there = {name for _, record in rows if isinstance(record, dict) for name in record}
    needed = [(name,) for name in layout.paths] + [layout.prompt, tuple(layout.votes)]
    missing = [" or ".join(names) for names in needed if not there.intersection(names)]
    if missing:
        raise ValueError(
            f"{path}: no {', '.join(missing)}, which {layout.what} has; it has "
            f"{', '.join(sorted(map(str, there))) or 'none'}"
        )


class _Reader:
    """Adds rows to a collector, and names those that cannot be added.

    Args:
        layout: what the fields mean.
        folder: where the clips are.
        both_bad: one of `BOTH_BAD_AS`.
    """

    def __init__(self, layout: Layout, folder: Path, both_bad: str):
        self._layout, self._folder, self._both_bad = layout, folder, both_bad
        self.collector, self.skipped = Collector(folder), BadClips()
        self.left_out: Counter[str] = Counter()
        self.pairs = 0

    def add(self, where: str, number: int, record: Any) -> None:
        """Adds the votes of a row."""
        if not isinstance(record, dict):
            self.skipped.note(where, MALFORMED, f"not an object but {repr(record)[:40]}")
            return
        if _is_true(record.get(self._layout.discard)):
            self.left_out["discarded by the benchmark"] += 1
            return
        try:
            clips = [self._clip(where, record, side) for side in (0, 1)]
            for field, dimension, label in self._labels(record):
                if verdict := self._verdict(where, field, label):
                    self.collector.compare(where, *clips, dimension, verdict, judge=f"row {number}")
                    self.pairs += verdict != "invalid"
        except ValueError as error:
            self.skipped.note(where, MALFORMED, str(error).removeprefix(f"{where}: "))

    def _clip(self, where: str, record: Record, side: int) -> str:
        layout = self._layout
        prompt = next((record[name] for name in layout.prompt if record.get(name)), "")
        return self.collector.clip(
            where,
            _local(_text(record, layout.paths[side]), self._folder),
            prompt if isinstance(prompt, str) else "",
            source=_text(record, layout.models[side]) if layout.models else "",
            fps=_number(record, layout.fps[side]) if layout.fps else float("nan"),
            frames=_number(record, layout.frames[side]) if layout.frames else float("nan"),
        )

    def _labels(self, record: Record) -> list[tuple[str, str, Any]]:
        """(field, dimension, label) of every vote of a row."""
        found = []
        for field, dimension in self._layout.votes.items():
            value = record.get(field)
            if isinstance(value, dict):
                found += [(f"{field}.{name}", _name(name), v) for name, v in value.items()]
            elif field in record and dimension:
                found.append((field, dimension, value))
        return found

    def _verdict(self, where: str, field: str, label: Any) -> str:
        """The verdict of a label; "" for one that is left out."""
        text = label.strip() if isinstance(label, str) else label
        if text in (None, ""):
            self.skipped.note(f"{where}, {field}", "no label", "the vote is missing")
            return "invalid"
        verdict = self._layout.verdicts.get(text, "") if isinstance(text, str) else ""
        if verdict == BOTH_BAD:
            self.left_out[f"both bad, counted as {self._both_bad}"] += 1
            return "tie" if self._both_bad == "tie" else ""
        if not verdict:
            known = ", ".join(self._layout.verdicts)
            said = f"{repr(label)[:60]}; known: {known}"
            self.skipped.note(f"{where}, {field}", "unknown label", said)
        return verdict or "invalid"


def _text(record: Record, name: str) -> str:
    value = record.get(name)
    if isinstance(value, dict):  # a file, as Hugging Face's tables have them
        value = value.get("path")
    return value.strip() if isinstance(value, str) else ""


def _number(record: Record, name: str) -> float:
    value = record.get(name)
    if value is None or value == "":
        return float("nan")
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 < found < float("inf"):
        raise ValueError(f"{name}={value!r} is not a positive number")
    return found


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _name(category: str) -> str:
    """A dimension as ours are called: "Coherence & Consistency" is coherence_consistency."""
    return re.sub(r"[^a-z0-9]+", "_", category.lower()).strip("_")


def _local(place: str, folder: Path) -> str:
    """The path below the folder of a clip that is named by a web address; others stay."""
    if not place.startswith(("http://", "https://")):
        return place
    parts = Path(unquote(urlsplit(place).path).lstrip("/")).parts
    ends = [Path(*parts[i:]) for i in range(len(parts))]
    return next((str(end) for end in ends if (folder / end).is_file()), str(Path(*parts)))
