"""What stands of a journal: answers that were not undone, and what is next for whom."""

import datetime
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from vidpref.annotation.assignment import Showing, left_to_do, showings
from vidpref.annotation.journal import Entry, Journal
from vidpref.annotation.task import Item, Task, check_answer


class AnsweredOtherwise(ValueError):
    """This annotator has given another answer already, as in another window."""


class Standing:
    """The answers that stand.

    Args:
        entries: a journal's.

    Attributes:
        by_annotator: annotator -> key -> answer, in the order of giving.
        undone: the same of answers that were taken back and not given anew.
        undos: annotator -> how often.
    """

    def __init__(self, entries: Iterable[Entry] = ()):
        self.by_annotator: dict[str, dict[str, Entry]] = defaultdict(dict)
        self.undone: dict[str, dict[str, Entry]] = defaultdict(dict)
        self.undos: dict[str, int] = defaultdict(int)
        for entry in entries:
            self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Takes another line of the journal into account."""
        annotator = entry["annotator"]
        stands = self.by_annotator[annotator]
        if "undo" not in entry:
            stands[entry["key"]] = entry
            self.undone[annotator].pop(entry["key"], None)
        elif entry["undo"] in stands:
            self.undone[annotator][entry["undo"]] = stands.pop(entry["undo"])
            self.undos[annotator] += 1

    def answers(self, *, checks: bool = False) -> list[Entry]:
        """Returns the answers to items, or to attention checks."""
        found = [entry for stands in self.by_annotator.values() for entry in stands.values()]
        return [entry for entry in found if bool(entry["check"]) == checks]


def item_of(entry: Entry) -> Item:
    """Returns the item of an answer."""
    return Item(entry["prompt"], tuple(entry["clips"]), tuple(entry["sources"]))


class Answers:
    """A task and its journal: what is next, answers and undos. Several threads may call it.

    Args:
        task: what is asked.
        journal: where it is written.

    Raises:
        ValueError: the journal has answers, and all are about other items.
    """

    def __init__(self, task: Task, journal: Journal):
        self.task, self._journal, self._lock = task, journal, threading.Lock()
        self._standing = Standing(journal.entries)
        self._orders: dict[str, tuple[Showing, ...]] = {}
        self._people: dict[str, set[str]] = defaultdict(set)  # by item
        self.changes = len(journal.entries)
        asked, other = {item.id for item in task.items}, []
        for entry in self._standing.answers():
            item = item_of(entry)
            self._people[item.id].add(entry["annotator"])
            if item.id not in asked:
                other.append(item)
        self.not_asked = len(other)
        if other and len(other) == len(self._standing.answers()):
            raise ValueError(
                f"the journal holds {len(other)} answers, and none is about what is asked here; "
                f"the first is about {' and '.join(other[0].clips)}: give the same clips, or "
                "another --out"
            )

    def standing(self) -> Standing:
        """Returns a copy of what stands now."""
        with self._lock:
            copy = Standing()
            for kind in ("by_annotator", "undone"):
                for annotator, entries in getattr(self._standing, kind).items():
                    getattr(copy, kind)[annotator] = dict(entries)
            copy.undos.update(self._standing.undos)
            return copy

    def known_as(self, annotator: str) -> str:
        """Returns the name of an annotator as it was first written."""
        folded = annotator.casefold()
        with self._lock:
            known = list(self._standing.by_annotator)
        return next((name for name in known if name.casefold() == folded), annotator)

    def state(self, annotator: str) -> dict[str, Any]:
        """Returns where an annotator is: done, left, last (the key that an undo would take back),
        next showings (the first is to be answered), and what was said of that before an undo.
        """
        with self._lock:
            answered = self._standing.by_annotator[annotator]
            left = list(left_to_do(self._order(annotator), set(answered), self._full(annotator)))
            before = self._standing.undone[annotator].get(left[0].key) if left else None
            return {
                "done": len(answered),
                "left": len(left),
                "last": next(reversed(answered), None),
                "next": left[:2],
                "before": before,
            }

    def answer(
        self,
        annotator: str,
        key: str,
        answer: Mapping[str, Any],
        *,
        note: str = "",
        seconds: float | int = 0.0,
    ) -> None:
        """Writes an answer; the same one again, as after a lost reply, changes nothing.

        Raises:
            AnsweredOtherwise: another one stands.
            ValueError: nothing of this key is asked, or the answer is none.
            OSError: it could not be written.
        """
        with self._lock:
            showing = next((s for s in self._order(annotator) if s.key == key), None)
            if showing is None:
                raise ValueError(f"nothing called {key!r} is asked here")
            check_answer(answer, self.task.kind, self.task.dimensions)
            before = self._standing.by_annotator[annotator].get(key)
            if before is not None:
                if before["answer"] != answer:
                    raise AnsweredOtherwise("you have answered this already, in another window")
                return
            sources = dict(zip(showing.item.clips, showing.item.sources, strict=True))
            self._write(
                {
                    "at": _now(),
                    "annotator": annotator,
                    "key": key,
                    "check": showing.check,
                    "prompt": showing.item.prompt,
                    "clips": list(showing.clips),
                    "sources": [sources[clip] for clip in showing.clips],
                    "answer": dict(answer),
                    "note": note,
                    "seconds": round(seconds, 2),
                }
            )
            if not showing.check:
                self._people[showing.item.id].add(annotator)

    def undo(self, annotator: str, key: str) -> None:
        """Takes the last answer back, if it is of this key; else, as after a lost reply, nothing.

        Raises:
            OSError: it could not be written.
        """
        with self._lock:
            answered = self._standing.by_annotator[annotator]
            if next(reversed(answered), None) != key:
                return
            entry = answered[key]
            self._write({"at": _now(), "annotator": annotator, "undo": key})
            if not entry["check"]:
                self._people[item_of(entry).id].discard(annotator)

    def _write(self, entry: Entry) -> None:
        self._journal.append(entry)
        self._standing.apply(entry)
        self.changes += 1

    def _order(self, annotator: str) -> tuple[Showing, ...]:
        if annotator not in self._orders:
            self._orders[annotator] = showings(self.task, annotator)
        return self._orders[annotator]

    def _full(self, annotator: str) -> set[str]:
        if not self.task.votes:
            return set()
        return {
            item
            for item, people in self._people.items()
            if annotator not in people and len(people) >= self.task.votes
        }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
