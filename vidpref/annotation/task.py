"""What people are asked: pairs of clips, or single clips, in some dimensions."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from vidpref.datasets.preferences import OVERALL
from vidpref.seeds import fold_seed

INVALID, TIE = "invalid", "tie"
# by the kind of a task: verdicts on a pair as it is shown; grades of a clip, the best last
SAID = MappingProxyType(
    {"compare": ("left", TIE, "right", INVALID), "grade": ("1", "2", "3", "4", "5", INVALID)}
)
MIDDLE = 3  # the grade that is neither good nor bad
# what the page asks in dimensions that VideoAlign (Appendix G) and IPO (Appendix A) define
ASKED = MappingProxyType(
    {
        "visual_quality": "How good are the pictures: sharp, detailed, free of faults?",
        "motion_quality": "How good is the motion: smooth, steady, as things really move?",
        "text_alignment": "How much of the prompt is there: things, actions, place, style?",
        OVERALL: "All in all.",
    }
)


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing that is asked: two clips of a prompt, or one.

    Attributes:
        prompt: what the clips were to show, one line.
        clips: their names in the records: paths below the folder of the records, or whole ones.
        sources: what made each, such as a policy; "" where nobody says. People do not see it.
    """

    prompt: str
    clips: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def id(self) -> str:
        """Digits of its prompt and clips, whichever comes first."""
        named = json.dumps([self.prompt, sorted(self.clips)]).encode()
        return hashlib.blake2s(named, digest_size=8).hexdigest()


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that is asked.

    Attributes:
        kind: "compare" pairs, or "grade" clips.
        items: what is asked, each item once.
        dimensions: in which each item is judged.
        seed: of orders and sides.
        checks: attention checks for each item, about.
        votes: people who are asked about an item; 0 asks everyone.
    """

    kind: Literal["compare", "grade"]
    items: tuple[Item, ...]
    dimensions: tuple[str, ...]
    seed: int = 0
    checks: float = 0.0
    votes: int = 0


def check_answer(answer: Mapping[str, object], kind: str, dimensions: Sequence[str]) -> None:
    """Refuses an answer that is none.

    Args:
        answer: what is said, by dimension.
        kind, dimensions: of the task.

    Raises:
        ValueError: a dimension is missing or unknown, or what is said in one.
    """
    if set(answer) != set(dimensions):
        raise ValueError(f"answer all of {', '.join(dimensions)}, and nothing else")
    for dimension, said in answer.items():
        if said not in SAID[kind]:
            raise ValueError(f"{dimension}={said!r}: known are {', '.join(SAID[kind])}")


def chosen(items: tuple[Item, ...], limit: int, seed: int) -> tuple[Item, ...]:
    """Returns `limit` of the items at random, in their order; a larger limit adds to a smaller."""
    if not 0 < limit < len(items):
        return items
    drawn = {
        item.id for item in sorted(items, key=lambda i: fold_seed(seed, "limit", i.id))[:limit]
    }
    return tuple(item for item in items if item.id in drawn)


def clip_name(path: str | os.PathLike, folder: Path) -> str:
    """Returns what records in `folder` call a clip: as their reader does."""
    full, root = os.path.abspath(path), os.path.abspath(folder)
    inside = os.path.commonpath([full, root]) == root
    return Path(os.path.relpath(full, root) if inside else full).as_posix()


def clip_path(name: str, folder: Path) -> Path:
    """Returns where the clip of a name lies."""
    return Path(os.path.abspath(folder), name)
