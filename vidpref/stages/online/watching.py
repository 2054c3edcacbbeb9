"""Whether what a policy learns from and what is true part: the first sign of reward hacking."""

import collections

import numpy as np

from vidpref.typing import Float, UInt8

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
    Figure 7). Means are over 8 drawings; a run that goes on starts to look anew.

    Args:
        fall: of the truth.
    """

    def __init__(self, fall: float):
        self._fall = fall
        self._last: collections.deque = collections.deque(maxlen=_DRAWINGS)
        self._best: tuple[float, float, int] | None = None  # truth, reward, step
        self._said = False

    def at(self, step: int, reward: float, truth: float) -> str:
        """Returns what to tell the user of a drawing; "" for nothing."""
        self._last.append((truth, reward))
        if len(self._last) < _DRAWINGS:
            return ""
        truth, reward = np.mean(self._last, axis=0).tolist()
        if self._best is None or truth >= self._best[0]:
            self._best = truth, reward, step
        best, before, when = self._best
        if self._said or best - truth <= self._fall or reward <= before:
            return ""
        self._said = True
        return (
            f"step {step}: the policy may be hacking its reward, which rose from {before:.3g} to "
            f"{reward:.3g} since step {when}, while the verifier's acceptance fell from {best:.3g} "
            f"to {truth:.3g} (means over {_DRAWINGS} drawings): train for fewer steps, or hold the "
            "policy to its reference or to real clips"
        )
