"""What a round makes of a policy, as a recipe sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ml_collections import ConfigDict

from vidpref.generation.generator import Generator
from vidpref.runs.policies import Policy

if TYPE_CHECKING:
    from vidpref.runs.recipe import Recipe


@runtime_checkable
class Method(Protocol):
    """What a round makes of a policy; one object a kind, without state."""

    def check(self, config: ConfigDict, generator: Generator, rounds: int) -> None:
        """Refuses a config that this cannot work with; ValueError names the field."""
        ...

    def judged_dimensions(self, config: ConfigDict) -> tuple[str, ...]:
        """Returns the dimensions that the judge must score for it."""
        ...

    def needs_labels(self, config: ConfigDict) -> bool:
        """Returns whether it learns from clips that a judge scored."""
        ...

    def settings(self, config: ConfigDict) -> Mapping[str, Any]:
        """Returns what the first line of a run says of it."""
        ...

    def improve(self, recipe: Recipe, policy: Policy, round_: int) -> Policy:
        """Returns the policy after a round, by stages that have not run yet.

        Args:
            recipe: where the stages belong.
            policy: where to start.
            round_: number of the round, from 1.
        """
        ...
