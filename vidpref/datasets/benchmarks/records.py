"""Rows of a table in whatever file it came: CSV, JSON, JSON lines or Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vidpref.csv_text import read_csv
from vidpref.json_text import parse_json, read_json
from vidpref.text_files import read_text

SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet")

Record = dict[str, Any]


def read_records(path: Path) -> list[tuple[str, Any]]:
    """Returns every row: where it stands, and its fields by name.

    A row of JSON need not be an object: whoever reads it says what is wrong with it.

    Args:
        path: ends in one of `SUFFIXES`; a JSON file is one list of objects.

    Raises:
        ValueError: no such file, another suffix, no row, or a file that is damaged; names file and
            line (from 1), or file and entry (from 0) of a JSON list or a Parquet file.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: wanted a file that ends in one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    rows = _READERS[suffix](path)
    if not rows:
        raise ValueError(f"{path}: no row in it")
    return rows


def _csv(path: Path) -> list[tuple[str, Any]]:
    return list(read_csv(path, ())[1])


def _json(path: Path) -> list[tuple[str, Any]]:
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path}: not a list of objects but a {type(entries).__name__}")
    return _numbered(path, entries)


def _lines(path: Path) -> list[tuple[str, Any]]:
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(f"{path}, line {n}", parse_json(text, path, n)) for n, text in lines if text.strip()]


def _parquet(path: Path) -> list[tuple[str, Any]]:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no Parquet file that can be read: {error}") from error
    whole = frame.astype(object).where(frame.notna(), None)
    return _numbered(path, whole.to_dict("records"))


def _numbered(path: Path, entries: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(f"{path}, entry {number}", entry) for number, entry in enumerate(entries)]


_READERS = {".csv": _csv, ".json": _json, ".jsonl": _lines, ".ndjson": _lines, ".parquet": _parquet}
