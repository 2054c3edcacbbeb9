"""Numbers of a run: JSON lines, TensorBoard and W&B for later, a progress bar for now."""

import json
import sys
import time
from collections.abc import Mapping
from io import TextIOBase
from pathlib import Path
from types import TracebackType

import tqdm

from vidpref.files import write_text
from vidpref.storage import mirror
from vidpref.training.wandb_runs import start_run

METRICS_FILE = "metrics.jsonl"
_LINE_EVERY = 10.0  # seconds between two lines where the output is no terminal


class MetricsWriter:
    """Writes one JSON line a step to `folder/metrics.jsonl`, and the same to TensorBoard.

    Inside `wandb_runs.logged_to` it goes to Weights & Biases as well.

    A run that goes on from a checkpoint does some steps again; their old lines are removed, so
    that every step has one line. (W&B keeps the old ones, which are the same.)

    Args:
        folder: folder of the run.
        resume_step: updates done so far; lines of later steps are removed.
        enabled: False in all processes but the first.
    """

    def __init__(self, folder: Path, *, resume_step: int = 0, enabled: bool = True):
        self._folder = folder
        self._file = self._tensorboard = self._wandb = None
        if not enabled:
            return
        from tensorboardX import SummaryWriter  # slow to import, and only the first process writes

        folder.mkdir(parents=True, exist_ok=True)
        rewind(folder / METRICS_FILE, resume_step)
        self._file = (folder / METRICS_FILE).open("a")
        self._tensorboard = SummaryWriter(
            str(folder / "tensorboard"), purge_step=resume_step + 1, flush_secs=30
        )
        self._wandb = start_run(folder)

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        """Writes the values of a step; the line is on disk when this returns."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step, commit=True)

    def keep(self) -> None:
        """Puts what was written so far into the bucket, where the folder stands for one."""
        if self._file is not None:
            mirror.put(self._folder / METRICS_FILE)

    def close(self, *, failed: bool = False) -> None:
        """Closes all files; W&B is told whether the run `failed`."""
        if self._file is not None:
            self._file.close()
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=int(failed))

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)


def read_metrics(folder: Path) -> list[dict[str, float | int]]:
    """Returns the lines of a run's metrics, each a dict with "step"; [] where there are none."""
    path = folder / METRICS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rewind(path: Path, step: int) -> None:
    """Removes the lines of steps after `step`, and a last line that a kill cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["step"] <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))


class Progress:
    """A progress bar with rate and time left; plain lines where the output is no terminal.

    A line reads `pretrain 1200/2500 48% 12.3 it/s about 1m46s left`, one every ten seconds. The
    rate leaves out the time to the first update, which is mostly compilation.

    Args:
        name: what is going on.
        total: items in all.
        done: items that an earlier run did.
        stream: default stderr.
        enabled: False in all processes but the first.
    """

    def __init__(
        self,
        name: str,
        *,
        total: int,
        done: int = 0,
        stream: TextIOBase | None = None,
        enabled: bool = True,
    ):
        self._name, self._total, self._done = name, total, done
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled
        self._bar = None
        self._started = self._printed = time.monotonic()
        self._first: tuple[float, int] | None = None
        if enabled and self._stream.isatty():
            self._bar = tqdm.tqdm(
                desc=name, total=total, initial=done, file=self._stream, dynamic_ncols=True
            )

    def update(self, n: int = 1, note: str = "") -> None:
        """Counts `n` more items; `note` is shown behind the time left."""
        self._done += n
        if not self._enabled:
            return
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
            return
        now = time.monotonic()
        if self._first is None:
            self._first = (now, self._done)
        if now - self._printed >= _LINE_EVERY:
            self._printed = now
            self._print(self._line(now), note)

    def say(self, message: str) -> None:
        """Prints a message without breaking the bar."""
        if not self._enabled:
            return
        if self._bar is not None:
            self._bar.write(message, file=self._stream)
        else:
            self._print(message)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._enabled and kind is None:
            took = _duration(time.monotonic() - self._started)
            self._print(f"{self._name} {self._done}/{self._total} done in {took}")

    def _line(self, now: float) -> str:
        percent = 100 * self._done // max(self._total, 1)
        line = f"{self._name} {self._done}/{self._total} {percent}%"
        since, already = self._first
        if now > since and self._done > already:
            rate = (self._done - already) / (now - since)
            left = _duration((self._total - self._done) / rate)
            speed = f"{rate:.1f} it/s" if rate >= 1 else f"{1 / rate:.1f} s/it"
            line += f" {speed} about {left} left"
        return line

    def _print(self, line: str, note: str = "") -> None:
        print(line, *([note] if note else []), file=self._stream, flush=True)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
