"""On-policy batches: what the current policy makes of a batch before the steps that learn from it.

A rollout draws by a pure function `prepare(policy, frozen, batch, key, step) -> drawn`:

    policy  what `apply_network` takes, of the trainable parameters as they are now, dropout off.
            An on-policy method draws its samples with it (GRPO, online DPO), and takes from it the
            log-probabilities that a ratio is formed with.
    frozen  what the loss gets too, such as the parameters of a reward or of the reference: they
            are arguments of the compiled program, where a closure's arrays would be constants.
    batch   the global batch, rows first; what is returned must have rows first too.
    key     depends on the run's seed and on the step alone, so that a run that was killed and
            started again draws the same samples. No key of the loss equals it.
    step    updates before this one, a number on the device.

It is compiled once, as a program of its own: its memory is free again when the step runs. What a
judge on the host says of what was drawn comes after it, see `Rollout.then`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vidpref.training.plan import Plan
from vidpref.training.sharding import activation_rules, batch_sharding
from vidpref.training.state import TrainState
from vidpref.training.step import seen_by_loss
from vidpref.typing import Array, PyTree

Prepare = Callable[[PyTree, PyTree, PyTree, Array, Array], PyTree]
Draw = Callable[[TrainState, PyTree, PyTree], PyTree]

# Step n of the loss has `fold_in(key, n)`; no run has as many steps as this.
_ROLLOUTS = np.uint32(2**32 - 1)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What makes the batches of an on-policy method.

    Attributes:
        draw: `(state, frozen, batch) -> drawn`, from `make_rollout`.
        then: `(drawn, step) -> (drawn, metrics)`, of the whole batch, in Python: a judge. Its
            metrics join those of every step that learns from it. None for nothing.
        updates: steps that learn from one drawing, each from its own part of the rows. A run is
            saved where they are through, so that it goes on with a drawing.
        ended: why training ends before the step that has just drawn, "" where it goes on; alike in
            all processes, and for a run that goes on. None: it never does.
    """

    draw: Draw
    then: Callable[[PyTree, int], tuple[PyTree, dict[str, Any]]] | None = None
    updates: int = 1
    ended: Callable[[], str] | None = None

    def __call__(
        self, state: TrainState, frozen: PyTree, batch: PyTree, step: int
    ) -> tuple[PyTree, dict[str, Any]]:
        """Returns what was drawn for the steps from `step` on, and metrics of it."""
        with jax.transfer_guard("disallow"):
            drawn = self.draw(state, frozen, batch)
        return (drawn, {}) if self.then is None else self.then(drawn, step)

    def draws_at(self, step: int) -> bool:
        """Whether a step, counted from 1, draws; the others go on with what was drawn before."""
        return (step - 1) % self.updates == 0

    def part(self, drawn: PyTree, step: int, mesh: Mesh) -> PyTree:
        """Returns the rows that a step learns from: of n updates every n-th row.

        So every device keeps its own rows.
        """
        if self.updates == 1:
            return drawn
        return _every_nth(self.updates, mesh)(drawn, (step - 1) % self.updates)


def make_rollout(prepare: Prepare, plan: Plan, *, by_reference: bool = False) -> Draw:
    """Returns the compiled `draw(state, frozen, batch) -> drawn`.

    Args:
        prepare: pure, see above.
        plan: plan of the run whose states are given.
        by_reference: draws with the reference, which follows the policy (DiffusionNFT).
    """

    def draw(state: TrainState, frozen: PyTree, batch: PyTree) -> PyTree:
        key = jax.random.fold_in(jax.random.fold_in(state.key, _ROLLOUTS), state.step)
        frozen = seen_by_loss(frozen, state)
        if by_reference:
            policy = plan.tuning.reference(frozen)
        else:
            policy = plan.tuning.policy(state.params, frozen, None)
        with activation_rules(plan.mesh):
            return prepare(policy, frozen, batch, key, state.step)

    rows = batch_sharding(plan.mesh)
    return jax.jit(draw, in_shardings=(plan.shardings, None, rows), out_shardings=rows)


@functools.lru_cache(maxsize=8)
def _every_nth(n: int, mesh: Mesh) -> Callable[[PyTree, int], PyTree]:
    rows = batch_sharding(mesh)

    def part(drawn: PyTree, number: int) -> PyTree:
        return jax.tree.map(lambda x: x[number::n], drawn)

    return jax.jit(part, static_argnums=1, in_shardings=rows, out_shardings=rows)
