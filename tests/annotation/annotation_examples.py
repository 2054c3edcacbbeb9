"""Small videos, tasks and journals for the tests of annotation."""

import contextlib
import threading

import numpy as np

from vidpref.annotation.answers import Answers
from vidpref.annotation.journal import JOURNAL, Journal
from vidpref.annotation.server import AnnotationServer
from vidpref.annotation.task import Item, Task
from vidpref.annotation.videos import look_at
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.video_writing import encode_clip

DIMENSIONS = ("visual_quality", "motion_quality")
ANSWER = {"visual_quality": "left", "motion_quality": "tie"}


def write_video(path, *, frames=12, height=72, width=128, level=90, fps=8, codec=None):
    """A square that moves from left to right over a grey ground."""
    clip = np.full((frames, height, width, 3), level, np.uint8)
    for t in range(frames):
        x = (width - 32) * t // frames
        clip[t, 20:52, x : x + 32] = (214, 60, 48)
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_clip(path, clip, fps, codec)


def items(count, sources=("old", "new")):
    """Items whose clips need not be there."""
    return tuple(
        Item(f"prompt {n}", tuple(f"{s}/{n}.mp4" for s in sources), tuple(sources))
        for n in range(count)
    )


def task(count=4, *, kind="compare", **fields):
    """A task of so many items."""
    sources = ("old", "new") if kind == "compare" else ("old",)
    return Task(kind, items(count, sources), DIMENSIONS, **fields)


def entry(annotator, number, said, *, left="old", note="", check="", **fields):
    """An answer on item `number`; `said` is the same in both dimensions, or a dictionary."""
    sources = [left, "new" if left == "old" else "old"]
    clips = [f"{source}/{number}.mp4" for source in sources]
    answer = said if isinstance(said, dict) else dict.fromkeys(DIMENSIONS, said)
    return {
        "at": "2026-01-01T00:00:00+00:00",
        "annotator": annotator,
        "key": Item(f"prompt {number}", tuple(clips), tuple(sources)).id,
        "check": check,
        "prompt": f"prompt {number}",
        "clips": clips,
        "sources": sources,
        "answer": answer,
        "note": note,
        "seconds": 2.0,
    } | fields


def write_videos(folder, count=3, sources=("old", "new")):
    """The videos of `items`, which differ in brightness."""
    for place, source in enumerate(sources):
        for n in range(count):
            write_video(folder / source / f"{n}.mp4", level=60 + 60 * place, height=72)


@contextlib.contextmanager
def served(folder, wanted, *, port=0):
    """A running server of a task whose clips are in a folder."""
    shown, videos = look_at(wanted.items, folder, BadClips())
    assert shown == wanted.items
    journal = Journal(folder / JOURNAL, wanted)
    server = AnnotationServer(port, Answers(wanted, journal), videos, lambda: True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        journal.close()
