"""The page of an evaluation of two models: tables, and clips of one noise side by side."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidpref.evaluation.clips import Videos
from vidpref.evaluation.pages import fill
from vidpref.evaluation.report import page_filters
from vidpref.evaluation.tables import Table
from vidpref.files import write_text


@dataclasses.dataclass(frozen=True)
class ShownClip:
    """A clip of one of the models.

    Attributes:
        address: of its file, as seen from the page.
        scores: what judges say of it, a line each.
        reasons: (judge, its words).
    """

    address: str
    scores: Sequence[str]
    reasons: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class ShownPair:
    """The clips of a prompt and noise, by "before" and "after"."""

    prompt: str
    category: str
    clips: Mapping[str, ShownClip]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
    """What the page says.

    Attributes:
        title: heading.
        about: what was compared, a line each.
        tables: with the numbers.
        chosen: pairs that were chosen before anything was scored.
        choice: how, a sentence.
        moved: pairs that were chosen because of their scores.
        moved_by: judge and dimension of these.
        command: what the user typed.
        settings: name -> value.
        environment: name -> value: versions, devices, date.
    """

    title: str
    about: Sequence[str]
    tables: Sequence[Table]
    chosen: Sequence[ShownPair]
    choice: str
    moved: Sequence[ShownPair]
    moved_by: str
    command: str
    settings: Mapping[str, str]
    environment: Mapping[str, str]


def write_page(path: Path, page: Page) -> None:
    """Writes the page as HTML; its clips are the files that were judged, where they lie."""
    write_text(path, fill("before_after.html", {"page": page}, page_filters(path, Videos())))
