"""The policies of a run: where their parameters lie, and what draws their clips."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.generation.cascade import DrawsClips
from vidpref.runs.graph import Stage
from vidpref.runs.inputs import target
from vidpref.training.checkpoints import load_params
from vidpref.training.tuning import PARAMS
from vidpref.typing import Array, PyTree

PRETRAINED = "pretrained"


@dataclasses.dataclass(frozen=True, eq=False)
class Policy:
    """A trained generator, and the reward model that guides it, as finished artifacts.

    Attributes:
        name: name in tables and in the names of stages, e.g. "dpo_round2".
        stages: what it is made of, by name; "policy" is the stage with the generator's parameters.
        network: key of what draws its clips: policies with one key share a compiled sampler.
        build: returns the generator, guided or not.
        load: returns its parameters, placed on the devices.
        load_generator: returns those of the generator alone, for a next round to start from.
        causes: what its clips depend on besides the stages.
    """

    name: str
    stages: Mapping[str, Stage]
    network: str
    build: Callable[[], DrawsClips]
    load: Callable[[], PyTree]
    load_generator: Callable[[], PyTree]
    causes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """The stages that draw clips and label them.

    Attributes:
        samples: draws them.
        labels: labels them: what tables go by. None without a judge.
        proxy: labels them by the judge, where `labels` are the verifier's.
    """

    samples: Stage
    labels: Stage | None
    proxy: Stage | None = None

    @property
    def last(self) -> Stage:
        """The stage that tables need."""
        return self.samples if self.labels is None else self.labels

    @property
    def targets(self) -> tuple[Stage, ...]:
        """The stages after which all of it is there."""
        return (self.last,) if self.proxy is None else (self.proxy, self.last)


def load_whole(init: Callable[[Array], PyTree], folder: Path, mesh: Mesh) -> PyTree:
    """Returns the parameters that a stage wrote, where `init(key)` makes such."""
    return load_params(folder / PARAMS, target(init, mesh))


def policy_name(config: ConfigDict, round_: int) -> str:
    """Returns the name of a config's policy in tables: "dpo", "dpo_round2"."""
    name = config.align.policy or config.align.method
    return name if round_ == 1 else f"{name}_round{round_}"
