"""Stages of several runs in one work directory, counted together, with the time left."""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from vidpref.coordination.agreeing import decided
from vidpref.evaluation.report import duration
from vidpref.runs.graph import DONE, Finished, Stage, finished, run_stage, state_of

# What a stage does, without the policy that it does it for: their times are alike.
_KIND = re.compile(r"((?:sample|label)-[^-]+|[^-]+)")


class CountedStages:
    """Runs the stages of many runs: each once, with a line like

        [13/31, about 12 min 30 s left] dpo, seed 1: align-dpo-round1: into align-dpo-round1-...

    Those that were done before share the line `[12 stages kept]`. The time left is that of the
    stages to come, each taken to be the mean of its kind (align, sample-evaluation, ...) so far,
    earlier runs in this work directory included; "at least" says that some kind was never done.

    Args:
        workdir: the work directory.
        say: prints a line.
    """

    def __init__(self, workdir: Path, say: Callable[[str], None]):
        self._workdir, self._say = workdir, say
        self._planned: dict[str, str] = {}  # folder -> kind
        self._seconds: dict[str, float] = {}  # of the planned stages that are done
        self._kept: set[str] = set()
        self._finished: dict[str, Finished] = {}  # in this process
        self._told: set[str] = set()  # kept stages that a line was said about

    def plan(self, stages: Iterable[Stage]) -> None:
        """Takes the place of an earlier plan.

        Args:
            stages: all there is to do; those that write the same folder count as one.
        """
        self._planned.clear()
        new = {stage.folder: stage for stage in stages}
        self._planned |= {folder: kind(stage.name) for folder, stage in new.items()}
        unknown = [stage for folder, stage in new.items() if folder not in self._seconds]
        done = decided("stages that are done", lambda: self._done(unknown))
        self._seconds |= done
        self._kept |= {*done}

    def run(self, heading: str, stage: Stage) -> Finished:
        """Runs a stage, unless it is done, under a heading: the run that it is of."""
        folder = stage.folder
        if folder not in self._finished:
            kept = state_of(stage, self._workdir) == DONE
            if not kept:
                self.tell_kept()
            say = functools.partial(self._line, f"[{self._count()}] {heading}", stage)
            if kept:
                say = lambda _: None  # noqa: E731
            self._finished[folder] = run_stage(stage, self._workdir, say)
            self._seconds[folder] = self._finished[folder].seconds
        return self._finished[folder]

    @property
    def used(self) -> list[Stage]:
        """The stages that were run or kept, in the order in which they were asked for."""
        return [done.stage for done in self._finished.values()]

    def tell_kept(self) -> None:
        """Says how many planned stages were done before, if that was not said yet."""
        new = self._kept.intersection(self._planned) - self._told
        if new:
            self._say(f"[{len(new)} stage{'s' if len(new) > 1 else ''} kept]")
        self._told |= new

    def _done(self, stages: Iterable[Stage]) -> dict[str, float]:
        """The seconds of those that are done, by their folders."""
        done = [stage for stage in stages if state_of(stage, self._workdir) == DONE]
        return {stage.folder: finished(stage, self._workdir).seconds for stage in done}

    def _line(self, title: str, stage: Stage, state: str) -> None:
        """Says what a stage does; why it is another than one done here is not worth a word where
        that one is of another seed or method of the plan.
        """
        done = (folder for folder in self._planned if folder in self._seconds)
        if any(folder.rpartition("-")[0] == stage.name for folder in done):
            state = state.partition(" (")[0]
        self._say(f"{title}: {stage.name}: {state}")

    def _count(self) -> str:
        done = sum(folder in self._seconds for folder in self._planned)
        left = self._time_left()
        return f"{done + 1}/{len(self._planned)}" + (f", {left} left" if left else "")

    def _time_left(self) -> str:
        """Returns the time that the planned stages will take, in words; "" if none is known."""
        known = defaultdict(list)
        for folder, seconds in self._seconds.items():
            known[kind(folder)].append(seconds)
        means = {of: sum(times) / len(times) for of, times in known.items()}
        left = [of for folder, of in self._planned.items() if folder not in self._seconds]
        total = sum(means.get(of, 0.0) for of in left)
        if not any(of in means for of in left):
            return ""
        words = duration(total) if total >= 60 else f"{round(total)} s"
        return f"{'about' if all(of in means for of in left) else 'at least'} {words}"


def kind(name: str) -> str:
    """Returns what a stage of this name, or with this folder, does: "align", "sample-train"."""
    return _KIND.match(name)[1]
