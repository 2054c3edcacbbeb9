"""JSON that users bring, read strictly: what Python's reader would pass over is refused by line."""

import contextlib
import json
import math
import os
import re
from typing import Any

from vidpref.text_files import read_text

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+')
_NO_TEXT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")  # may stand for no character, or is NUL


def read_json(path: str | os.PathLike) -> Any:
    """Returns what a UTF-8 file of one JSON value holds.

    Raises:
        ValueError: no such file, not UTF-8, and all of `parse_json`; names file and line.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, file: str | os.PathLike, line: int = 1) -> Any:
    """Returns the value of a JSON text.

    Args:
        text: the text of a file, or of a line of it.
        file: the file, for messages.
        line: line of the file where `text` begins.

    Raises:
        ValueError: not JSON; a key that stands twice in one object; a number that is not finite
            (NaN, Infinity, 1e999); a string with a NUL or half a surrogate pair; objects in each
            other beyond Python's depth. Names file and line.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite
        )
        if _NO_TEXT.search(text):
            _check_strings(text)
    except _Refused as refused:
        place, what = 0, str(refused)
        with contextlib.suppress(IndexError, json.JSONDecodeError):  # no JSON further on either
            place, what = _first_fault(text) or (place, what)
        raise ValueError(f"{file}, line {line + text.count(chr(10), 0, place)}: {what}") from None
    except json.JSONDecodeError as error:
        where = f"{file}, line {line + error.lineno - 1}"
        raise ValueError(f"{where}: not JSON: {error.msg} (column {error.colno})") from None
    except (RecursionError, ValueError) as error:  # too deep, or an integer of thousands of digits
        raise ValueError(f"{file}, line {line}: not JSON that can be read: {error}") from None
    return value


class _Refused(Exception):
    """The text is JSON of Python's reader, but not ours."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Refused("a key stands twice in one object; remove one")
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> float:
    raise _Refused(f"{text} is not a finite number")


def _check_strings(text: str) -> None:
    if _first_fault(text):
        raise _Refused("a string is no text")


def _first_fault(text: str) -> tuple[int, str] | None:
    """Place and name of what is refused, in a text that is JSON at least up to there."""
    keys: list[set[str] | None] = []  # of the objects around; None for an array
    last, start = "", 0
    for token in _TOKEN.finditer(text):
        here = token.group()
        if here in "{[":
            keys.append(set() if here == "{" else None)
        elif here in "}]":
            keys.pop()
        elif here == ":" and keys[-1] is not None:
            if last in keys[-1]:
                return start, f"the key {last!r} stands twice in one object; remove one"
            keys[-1].add(last)
        elif here.startswith('"'):
            last, start = json.loads(here), token.start()
            if "\0" in last or any("\ud800" <= letter <= "\udfff" for letter in last):
                return start, f"the string {last[:40]!r} holds what is no character"
        elif here in ("NaN", "Infinity", "-Infinity") or _is_infinite(here):
            return token.start(), f"{here} is not a finite number"
    return None


def _is_infinite(word: str) -> bool:
    try:
        return math.isinf(float(word))
    except ValueError:
        return False
