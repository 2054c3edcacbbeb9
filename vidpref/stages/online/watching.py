"""Whether what a policy learns from and what is true part: the first sign of reward hacking."""

import collections
import json
from pathlib import Path

import numpy as np

from vidpref.coordination.agreeing import first_host
from vidpref.files import write_text
from vidpref.storage import mirror
from vidpref.typing import Float, UInt8

NOTES, ACCOUNT = "watch.jsonl", "watch.json"
_DRAWINGS = 8  # that a mean is over: a drawing has some tens of clips only


def looks(clips: UInt8[np.ndarray, "n t h w c"]) -> dict[str, Float[np.ndarray, " n"]]:
    """Returns how clips look, each within [0, 1]; policies that hack a reward drift in these.

    `look/contrast` is the deviation of the brightness, `look/colour` the mean distance of the
    largest and the smallest colour of a pixel, `look/motion` the mean change from frame to frame.
    """
    values = clips.astype(np.float32) / 255
    over = (1, 2, 3)
    change = np.abs(np.diff(values, axis=1)) if values.shape[1] > 1 else np.zeros_like(values)
    return {
        "look/contrast": values.mean(axis=-1).std(axis=over),
        "look/colour": (values.max(axis=-1) - values.min(axis=-1)).mean(axis=over),
        "look/motion": change.mean(axis=(*over, 4)),
    }


class Watch:
    """Notes the means of reward and truth at every drawing, and says once that they part.

    They do where the truth has fallen from its best by more than `fall` while the reward is higher
    than it was there (Gao et al. 2023, "Scaling laws for reward model overoptimization"; AIF
    Figure 7). Means are over 8 drawings. What it noted lies in `watch.jsonl`, so that a run which
    goes on comes to the same; what it said in `watch.json`, for the report.

    Args:
        fall: of the truth.
        folder: of the stage.
        stops: whether training ends where they part.
        steps: that training was to have.
    """

    def __init__(self, fall: float, folder: Path, *, stops: bool = False, steps: int = 0):
        self._fall, self._folder, self._stops, self._steps = fall, folder, stops, steps
        self._last: collections.deque = collections.deque(maxlen=_DRAWINGS)
        self._best: tuple[float, float, int] | None = None  # truth, reward, step
        self._said = ""
        self._notes: list[str] | None = None

    @property
    def ended(self) -> str:
        """Why training ends before the step that was asked about last; "" where it goes on."""
        return self._said if self._stops else ""

    def at(self, step: int, reward: float, truth: float) -> str:
        """Returns what to tell the user of a drawing; "" for nothing.

        Args:
            step: that is about to learn from it.
            reward: mean over its clips.
            truth: likewise.
        """
        if self._notes is None:
            self._go_on(step)
        note = {"step": step, "reward": reward, "truth": truth}
        self._notes.append(json.dumps(note) + "\n")
        said = self._look(step, reward, truth)
        if first_host():
            write_text(self._folder / NOTES, "".join(self._notes))
            if said:
                write_text(self._folder / ACCOUNT, json.dumps(self._account(step), indent=2))
        return said

    def _go_on(self, step: int) -> None:
        """Looks at what an earlier attempt noted of the steps before."""
        self._notes = []
        path = mirror.pull(self._folder) / NOTES
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            note = json.loads(line)
            if note["step"] < step:
                self._notes.append(line + "\n")
                self._look(**note)

    def _look(self, step: int, reward: float, truth: float) -> str:
        self._last.append((truth, reward))
        if len(self._last) < _DRAWINGS:
            return ""
        truth, reward = np.mean(self._last, axis=0).tolist()
        if self._best is None or truth >= self._best[0]:
            self._best = truth, reward, step
        best, before, when = self._best
        if self._said or best - truth <= self._fall or reward <= before:
            return ""
        advice = "train for fewer steps, or hold the policy to its reference or to real clips"
        if self._stops:
            advice = f"training ends after {step - 1} of {self._steps} steps"
        self._said = (
            f"step {step}: the policy may be hacking its reward, which rose from {before:.3g} to "
            f"{reward:.3g} since step {when}, while the verifier's acceptance fell from {best:.3g} "
            f"to {truth:.3g} (means over {_DRAWINGS} drawings): {advice}"
        )
        return self._said

    def _account(self, step: int) -> dict[str, int | str]:
        found = {"parted_at": step, "warning": self._said}
        return found | {"trained": step - 1, "asked": self._steps} if self._stops else found
