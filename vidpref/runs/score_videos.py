"""A judge's scores of video files as one table; processes share the rows, a kill costs little."""

import dataclasses
import inspect
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from vidpref.coordination.agreeing import gathered
from vidpref.datasets.clip_errors import ClipError
from vidpref.datasets.video import decode_frames
from vidpref.rewards.by_name import NamedJudge
from vidpref.rewards.reward import Judgement
from vidpref.rewards.score_store import ScoreStore, content_key
from vidpref.storage.copies import bring_named
from vidpref.training.metrics import Progress

_READERS = 8  # threads that open and decode files
_SAVE_EVERY = 20.0  # seconds: what a kill can cost
_SAME_FPS = 0.05  # relative difference up to which a stated rate is the file's
# Columns of the table besides the judge's dimensions.
COLUMNS = (
    *("clip", "prompt", "judge", "seen", "frames", "height", "width", "fps", "reason", "failure"),
)


@dataclasses.dataclass(frozen=True)
class Showing:
    """How clips are shown.

    Attributes:
        frames: of a clip at most, evenly spaced from first to last; 0: all.
        batch_size: clips that are decoded, and judged, at once; those of one shape together.
    """

    frames: int = 0
    batch_size: int = 8


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A clip as the judge sees it, and what the table says of it."""

    frames: np.ndarray
    fps: float
    about: dict[str, Any]


def score_videos(
    clips: pd.DataFrame, judge: NamedJudge, store: ScoreStore, showing: Showing
) -> pd.DataFrame:
    """Returns a row a clip: `COLUMNS` and a column a dimension of the judge.

    seen, frames: number of frames that were shown, and of the file; height, width in pixels; fps of
    the file; reason: the judge's words; failure: why there is no score (nan) in some dimension, a
    file that cannot be read among it.

    A judge whose `score` takes `fps` [b] is told the rate of the frames that it sees. Where it
    refuses a batch (ValueError), its clips are shown one by one, and those that it refuses are
    failures.

    Args:
        clips: columns id, path, prompt, fps (nan where nobody states it).
        judge: who judges.
        store: answers that are known, and where new ones are kept.
        showing: how clips are shown.
    """
    count = jax.process_count()
    ends = [len(clips) * i // count for i in range(count + 1)]
    mine = range(ends[jax.process_index()], ends[jax.process_index() + 1])
    rows, work = clips.to_dict("records"), _Work(judge, store, showing)
    bring_named(row["path"] for row in rows[mine.start : mine.stop])
    try:
        with (
            Progress("score", total=len(mine), enabled=jax.process_index() == 0) as progress,
            ThreadPoolExecutor(_READERS) as readers,
        ):
            for start in range(mine.start, mine.stop, showing.batch_size):
                part = rows[start : min(start + showing.batch_size, mine.stop)]
                work.do(part, readers)
                progress.update(len(part))
    finally:
        store.flush()
    done = [row for part in gathered("scores", work.done) for row in part]
    store.refresh()
    return _table(clips, judge, store, done)


def account(table: pd.DataFrame, judge: NamedJudge) -> str:
    """Returns how many clips were scored, in what range, and which were not and why."""
    failed = table[table["failure"] != ""]
    lines = [f"{len(table) - len(failed)} of {len(table)} clips scored by {judge}"]
    for name in judge.reward.dimensions:
        scores = table[name].dropna()
        if len(scores):
            spread = f"{scores.mean():.3f}, from {scores.min():.3f} to {scores.max():.3f}"
            lines.append(f"  {name}: mean {spread}")
    if len(failed):
        lines.append(f"{len(failed)} without a score in every dimension:")
        shown = failed.head(20)
        lines += [f"  {row.clip}: {row.failure}" for row in shown.itertuples()]
        lines += [f"  ... and {len(failed) - len(shown)} more"] if len(failed) > len(shown) else []
    return "\n".join(lines)


class _Work:
    """What one process does.

    Attributes:
        done: [key, failure, what is known of the file] of each clip, in order.
    """

    def __init__(self, judge: NamedJudge, store: ScoreStore, showing: Showing):
        self._judge, self._store, self._showing = judge, store, showing
        self._takes_fps = "fps" in inspect.signature(judge.reward.score).parameters
        self._saved = time.monotonic()
        self.done: list[list[Any]] = []

    def do(self, rows: Sequence[dict[str, Any]], readers: ThreadPoolExecutor) -> None:
        """Scores some clips, as far as nobody knows their scores."""
        read = list(readers.map(self._read, rows))
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, (_, seen) in enumerate(read):
            if isinstance(seen, _Seen):
                by_shape.setdefault(seen.frames.shape, []).append(number)
        said: dict[int, tuple[str, dict[str, Any]]] = {}
        for numbers in by_shape.values():
            prompts = [rows[n]["prompt"] for n in numbers]
            judged = self._ask([read[n][1] for n in numbers], prompts)
            said |= dict(zip(numbers, judged, strict=True))
        for number, (key, seen) in enumerate(read):
            if isinstance(seen, str) or seen is None:  # cannot be read, or is known
                self.done.append([key, seen or "", {}])
                continue
            failure, answer = said[number]
            if failure:
                self.done.append([key, failure, answer | seen.about])
            else:
                self._store.add(key, answer | seen.about)
                self.done.append([key, "", {}])
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self._store.flush()
            self._saved = time.monotonic()

    def _read(self, row: dict[str, Any]) -> tuple[str, _Seen | str | None]:
        """The key of a clip, and it; None where its score is known, words where it is unusable."""
        path = Path(row["path"])
        try:
            if not path.exists():
                raise ClipError(path, "missing")
            key = content_key(path, row["prompt"], self._showing.frames)
            if self._store.get(key) is not None:
                return key, None
            frames, timing = decode_frames(path, self._showing.frames)
        except ClipError as error:
            return "", f"{error.reason}: {error.detail}"
        except OSError as error:
            return "", f"unreadable: {error.strerror or error}"
        if timing.frames < 2:
            return "", "too_short: a single frame is a picture, not a video"
        rate = timing.shown_rate
        if abs(row["fps"] - rate) > _SAME_FPS * rate:  # nan, where none is stated, is not
            return "", f"wrong fps: the list says {row['fps']:g}, the file {rate:.4g}"
        about = {
            "seen": len(frames),
            "frames": timing.frames,
            "height": frames.shape[1],
            "width": frames.shape[2],
            "fps": rate,
        }
        return key, _Seen(frames, rate * (len(frames) - 1) / (timing.frames - 1), about)

    def _ask(
        self, seen: Sequence[_Seen], prompts: Sequence[str]
    ) -> list[tuple[str, dict[str, Any]]]:
        """(failure, scores and reason) of each clip; all are of one shape."""
        told = {"fps": np.array([clip.fps for clip in seen])} if self._takes_fps else {}
        try:
            shown = np.stack([clip.frames for clip in seen])
            judged = self._judge.reward.score(shown, list(prompts), **told)
        except ValueError as error:
            if len(seen) == 1:
                nothing = dict.fromkeys(self._judge.reward.dimensions, float("nan"))
                return [(f"refused: {error}", nothing | {"reason": ""})]
            return [
                self._ask([clip], [prompt])[0] for clip, prompt in zip(seen, prompts, strict=True)
            ]
        return [_answer(judged, row) for row in range(len(seen))]


def _answer(judged: Judgement, row: int) -> tuple[str, dict[str, Any]]:
    scores = {name: float(values[row]) for name, values in judged.scores.items()}
    return judged.failures.get(row, ""), scores | {"reason": judged.reasons[row]}


def _table(
    clips: pd.DataFrame, judge: NamedJudge, store: ScoreStore, done: Sequence[Sequence[Any]]
) -> pd.DataFrame:
    dimensions = list(judge.reward.dimensions)
    rows = []
    for (key, failure, answer), (_, clip) in zip(done, clips.iterrows(), strict=True):
        known = answer if failure else store.get(key)
        if known is None:
            raise ValueError(
                f"the score of {clip['id']} was written by another process and is not to be seen "
                "here: --cache must be on a file system that all hosts share"
            )
        rows.append({"clip": clip["id"], "prompt": clip["prompt"], **known, "failure": failure})
    table = pd.DataFrame(rows).assign(judge=str(judge))
    columns = ["clip", "prompt", *dimensions, *COLUMNS[2:]]
    table = table.reindex(columns=columns)
    table[dimensions] = table[dimensions].astype("float64")
    counts = ["seen", "frames", "height", "width"]
    table[counts] = table[counts].astype("Int64")
    return table.assign(reason=table["reason"].fillna(""))
