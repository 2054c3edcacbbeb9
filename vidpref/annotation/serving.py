"""Serving a task until somebody stops it, and writing what came of it."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from vidpref.annotation.answers import Answers, Standing
from vidpref.annotation.journal import JOURNAL, TORN, Journal, opened, read_journal
from vidpref.annotation.records import RECORDS, check_aggregate, records, write_records
from vidpref.annotation.server import AnnotationServer
from vidpref.annotation.summary import tables
from vidpref.annotation.task import Task
from vidpref.annotation.videos import Video
from vidpref.files import write_text

AGREEMENT = "agreement.md"
_PAUSE = 1.0  # seconds between two writings of the records


def serve(
    task: Task, videos: Mapping[str, Video], folder: Path, *, port: int, aggregate: str
) -> None:
    """Serves the page of a task. Answers are in the journal at once, and in the records soon.

    Args:
        task: what is asked.
        videos: its clips, by name.
        folder: of the answers; made if it does not exist.
        port: of the page; 0 for any.
        aggregate: see `records`.

    Raises:
        JournalInUse: another server has the journal.
        ValueError: the journal is of another task, the port is in use, or a vote on grades.
    """
    check_aggregate(task.kind, aggregate)
    folder.mkdir(parents=True, exist_ok=True)
    with opened(folder, task) as journal:
        answers = Answers(task, journal)
        last = 0.0

        def changed() -> bool:
            nonlocal last
            if time.monotonic() < last + _PAUSE:
                return False
            try:
                _write(folder, answers.standing(), task.kind, task.dimensions, aggregate)
            except OSError as error:  # the journal has it all
                print(f"{folder / RECORDS} not written: {error}", file=sys.stderr, flush=True)
            last = time.monotonic()
            return True

        with AnnotationServer(port, answers, videos, changed) as server:
            print(_begun(task, answers, journal, folder, server.address), flush=True)
            try:
                server.serve_forever()
            finally:
                _write(folder, answers.standing(), task.kind, task.dimensions, aggregate)


def export(folder: Path, aggregate: str) -> str:
    """Writes the records and agreement.md of a folder, and returns what they say.

    Args:
        folder: of the journal, which another process may be writing.
        aggregate: see `records`.

    Raises:
        ValueError: all of `read_journal`; nobody has answered anything yet, or a vote on grades.
    """
    read = read_journal(folder / JOURNAL)
    standing = Standing(read.entries)
    if not standing.answers():
        raise ValueError(f"{folder / JOURNAL}: nobody has answered anything yet")
    found = tables(standing, read.kind, read.dimensions)
    lines = _write(folder, standing, read.kind, read.dimensions, aggregate)
    about = _about(standing, lines, aggregate)
    write_text(folder / AGREEMENT, "\n".join([f"{about}\n", *(t.to_markdown() for t in found)]))
    written = [f"written: {folder / name}" for name in (RECORDS, AGREEMENT)]
    return "\n".join([f"{about}\n", *(table.to_text() for table in found), *written]) + "\n"


def _write(
    folder: Path, standing: Standing, kind: str, dimensions: tuple[str, ...], aggregate: str
) -> int:
    lines = records(standing.answers(), kind, dimensions, aggregate)
    write_records(folder, lines)
    return len(lines)


def _about(standing: Standing, lines: int, aggregate: str) -> str:
    answers = standing.answers()
    people = {entry["annotator"] for entry in answers}
    said = [value for entry in answers for value in entry["answer"].values()]
    meant = {
        "each": "a line an annotator and item",
        "majority": "a line a pair, the verdict that most gave",
        "soft": "a line a pair, the verdict that most gave and the gap of the votes",
    }
    return (
        f"{len(answers)} answers of {len(people)} annotators, {said.count('invalid')} of "
        f"{len(said)} verdicts invalid; {lines} records, {meant[aggregate]}"
    )


def _begun(task: Task, answers: Answers, journal: Journal, folder: Path, address: str) -> str:
    what = "pairs" if task.kind == "compare" else "clips"
    given = len(answers.standing().answers())
    lines = [
        f"{len(task.items)} {what} in {', '.join(task.dimensions)}; {given} answers so far",
        f"answers: {folder / JOURNAL}; records: {folder / RECORDS}",
    ]
    if answers.not_asked:
        lines.append(f"{answers.not_asked} of the answers are about other {what}: they are kept")
    if journal.torn:
        lines.append(
            f"the journal ended with {len(journal.torn)} bytes of a line that a kill cut off: they "
            f"are in {folder / TORN}; nobody was told that this answer was saved"
        )
    return "\n".join([*lines, f"page: {address} (Ctrl-C stops, and the same command goes on)"])
