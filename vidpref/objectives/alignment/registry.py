"""The objectives by name, and the check of their hyper-parameters."""

import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Mapping

from vidpref.config.fields import Field
from vidpref.config.nearest import nearest
from vidpref.config.schema import FIELDS
from vidpref.objectives.alignment.advantage import awm, diffusion_nft
from vidpref.objectives.alignment.dpo import dpo, mcdpo, weighs_by_probability
from vidpref.objectives.alignment.errors import Metrics
from vidpref.objectives.alignment.kto import compares_mismatched, kto, kto_statistics
from vidpref.objectives.alignment.likelihood import flow_rwr, rwr, sft
from vidpref.typing import Array


@dataclasses.dataclass(frozen=True)
class ObjectiveSpec:
    """An objective as the rest of the house sees it.

    Attributes:
        fn: `(errors, labels, **hyper) -> (loss, metrics)`; with `statistics` it also takes those.
        needs_reference: whether `Errors.reference` must be there.
        k: clips of a row: exactly so many, or at least where `more` is set.
        more: whether a row may have more clips than k.
        learns_from_advantages: whether rewards are advantages over a group of clips, and the
            reference is the policy that drew them.
        needs_distance: whether `Errors.distance` must be there.
        diverges: whether it looks at `Errors.moved` and `reference_moved`, for which the policy
            that training started from stands by, beside a reference that follows.
        needs_motion: whether `Labels.motion` must be there.
        needs_two_classes: whether rewards must lie on both sides of its hyper-parameter
            `threshold`.
        needs_mismatched: `hyper -> whether Errors.mismatched must be there`.
        needs_pair_score: `hyper -> whether Labels.pair_score must be there`.
        statistics: `(errors, labels, **hyper) -> sums` that the loss needs of the global batch.
    """

    fn: Callable[..., tuple[Array, Metrics]]
    needs_reference: bool
    k: int
    more: bool = False
    learns_from_advantages: bool = False
    needs_distance: bool = False
    diverges: bool = False
    needs_motion: bool = False
    needs_two_classes: bool = False
    needs_mismatched: Callable[[Mapping[str, object]], bool] = lambda hyper: False
    needs_pair_score: Callable[[Mapping[str, object]], bool] = lambda hyper: False
    statistics: Callable[..., dict[str, Array]] | None = None

    @property
    def hyper(self) -> tuple[str, ...]:
        """The names of its hyper-parameters; for their fields see `hyper_field`."""
        parameters = inspect.signature(self.fn).parameters.values()
        return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)

    def check_k(self, k: int, name: str) -> None:
        """Raises ValueError unless rows of `k` clips fit; `name` is the objective's."""
        if k != self.k and not (self.more and k > self.k):
            wanted = f"{self.k} or more" if self.more else str(self.k)
            raise ValueError(f"{name} takes {wanted} clips a row, the rows have {k}")


OBJECTIVES = {
    "sft": ObjectiveSpec(sft, needs_reference=False, k=1),
    "rwr": ObjectiveSpec(rwr, needs_reference=False, k=1),
    "flow_rwr": ObjectiveSpec(flow_rwr, needs_reference=False, k=1),
    "dpo": ObjectiveSpec(
        dpo, needs_reference=True, k=2, more=True, needs_pair_score=weighs_by_probability
    ),
    "mcdpo": ObjectiveSpec(mcdpo, needs_reference=True, k=2, needs_motion=True),
    "kto": ObjectiveSpec(
        kto,
        needs_reference=True,
        k=1,
        needs_two_classes=True,
        needs_mismatched=compares_mismatched,
        statistics=kto_statistics,
    ),
    "diffusion_nft": ObjectiveSpec(
        diffusion_nft,
        needs_reference=True,
        k=1,
        learns_from_advantages=True,
        needs_distance=True,
        diverges=True,
    ),
    "awm": ObjectiveSpec(awm, needs_reference=True, k=1, learns_from_advantages=True),
}


def hyper_field(name: str) -> str:
    """Returns the field of the `align` section that holds a hyper-parameter."""
    return name if f"align.{name}" in FIELDS else f"online.{name}"


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
        raise ValueError(f"objective {name!r} is unknown; {nearest(name, OBJECTIVES)}")
    known = OBJECTIVES[name].hyper
    for field, value in hyper.items():
        if field not in known:
            raise ValueError(f"{name} has no field {field!r}; {nearest(field, known, cutoff=0.4)}")
        _check_value(f"{name}: {field}={value!r}", value, FIELDS[f"align.{hyper_field(field)}"])
    parameters = inspect.signature(OBJECTIVES[name].fn).parameters
    for field in known:
        if field not in hyper and parameters[field].default is inspect.Parameter.empty:
            allowed = FIELDS[f"align.{hyper_field(field)}"].range
            raise ValueError(f"{name}: {field} is missing; it must be {allowed}")


def _check_value(what: str, value: object, spec: Field) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not isinstance(spec.allowed, tuple) and not (number and math.isfinite(value)):
        raise ValueError(f"{what} must be a finite number")
    if problem := spec.problem(value):
        raise ValueError(f"{what}: {problem}")
