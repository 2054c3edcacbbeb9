"""The objectives by name, and the check of their hyper-parameters."""

import dataclasses
import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Mapping

from vidpref.objectives.alignment.dpo import dpo, mcdpo
from vidpref.objectives.alignment.errors import Metrics
from vidpref.objectives.alignment.kto import REFERENCE_POINTS, kto, kto_statistics
from vidpref.objectives.alignment.likelihood import flow_rwr, rwr, sft
from vidpref.typing import Array


@dataclasses.dataclass(frozen=True)
class ObjectiveSpec:
    """An objective as the rest of the house sees it.

    Attributes:
        fn: `(errors, labels, **hyper) -> (loss, metrics)`; with `statistics` it also takes those.
        needs_reference: whether `Errors.reference` must be there.
        k: clips of a row: exactly so many, or at least where `more` is set.
        ranges: for each hyper-parameter "> 0", ">= 0" or the words it may be.
        more: whether a row may have more clips than k.
        needs_motion: whether `Labels.motion` must be there.
        statistics: `(errors, labels, **hyper) -> sums` that the loss needs of the global batch.
    """

    fn: Callable[..., tuple[Array, Metrics]]
    needs_reference: bool
    k: int
    ranges: Mapping[str, str | tuple[str, ...]]
    more: bool = False
    needs_motion: bool = False
    statistics: Callable[..., dict[str, Array]] | None = None

    def check_k(self, k: int, name: str) -> None:
        """Raises ValueError unless rows of `k` clips fit; `name` is the objective's."""
        if k != self.k and not (self.more and k > self.k):
            wanted = f"{self.k} or more" if self.more else str(self.k)
            raise ValueError(f"{name} takes {wanted} clips a row, the rows have {k}")


_ADDED = {"nll_weight": ">= 0", "real_weight": ">= 0"}

OBJECTIVES = {
    "sft": ObjectiveSpec(sft, needs_reference=False, k=1, ranges={}),
    "rwr": ObjectiveSpec(rwr, needs_reference=False, k=1, ranges={"eta": "> 0", "gamma": ">= 0"}),
    "flow_rwr": ObjectiveSpec(flow_rwr, needs_reference=False, k=1, ranges={"beta": "> 0"}),
    "dpo": ObjectiveSpec(
        dpo,
        needs_reference=True,
        k=2,
        more=True,
        ranges={
            "beta": "> 0",
            **_ADDED,
            "time_power": ">= 0",
            "gap_power": ">= 0",
            "gap_reference": "> 0",
        },
    ),
    "mcdpo": ObjectiveSpec(
        mcdpo,
        needs_reference=True,
        k=2,
        needs_motion=True,
        ranges={"beta": "> 0", **_ADDED, "object_motion": ">= 0", "camera_motion": ">= 0"},
    ),
    "kto": ObjectiveSpec(
        kto,
        needs_reference=True,
        k=1,
        statistics=kto_statistics,
        ranges={
            "beta": "> 0",
            "desirable_weight": "> 0",
            "undesirable_weight": "> 0",
            "threshold": ">= 0",
            "reference_point": REFERENCE_POINTS,
            "real_weight": ">= 0",
        },
    ),
}


def needs_real_clips(hyper: Mapping[str, object]) -> bool:
    """Whether an objective with these hyper-parameters looks at real clips beside its rows."""
    return bool(hyper.get("real_weight"))


def check_hyper(name: str, hyper: Mapping[str, object]) -> None:
    """Checks an objective's name and hyper-parameters before anything runs.

    Raises:
        ValueError: an unknown objective or field (with the nearest right one), a field that is
            missing, of another kind (a finite number, or one of some words), or out of its range.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective {name!r} is unknown. {_nearest(name, OBJECTIVES)}")
    spec = OBJECTIVES[name]
    for field, value in hyper.items():
        if field not in spec.ranges:
            raise ValueError(f"{name} has no field {field!r}. {_nearest(field, spec.ranges)}")
        _check_value(f"{name}: {field}={value!r}", value, spec.ranges[field])
    parameters = inspect.signature(spec.fn).parameters
    for field, allowed in spec.ranges.items():
        if field not in hyper and parameters[field].default is inspect.Parameter.empty:
            raise ValueError(f"{name}: {field} is missing; it must be {allowed}")


def _check_value(what: str, value: object, allowed: str | tuple[str, ...]) -> None:
    if isinstance(allowed, tuple):
        if value not in allowed:
            raise ValueError(f"{what} must be one of {', '.join(allowed)}")
        return
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number")
    if value < 0 or (value == 0 and allowed == "> 0"):
        raise ValueError(f"{what} must be {allowed}")


def _nearest(word: str, known: Collection[str]) -> str:
    if not known:
        return "It takes no hyper-parameters."
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0]
    return f"Did you mean {near!r}? Known: {', '.join(known)}."
