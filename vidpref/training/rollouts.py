"""On-policy batches: what the current policy makes of a batch before the step that learns from it.

A rollout is a pure function `prepare(policy, frozen, batch, key) -> batch`:

    policy  what `apply_network` takes, of the trainable parameters as they are now, dropout off.
            An on-policy method draws its samples with it (GRPO, online DPO), and takes from it the
            log-probabilities that a ratio is formed with.
    frozen  what the loss gets too, such as the parameters of a reward or of the reference: they
            are arguments of the compiled program, where a closure's arrays would be constants.
    batch   the global batch, rows first; what is returned must have rows first too.
    key     depends on the run's seed and on the step alone, so that a run that was killed and
            started again draws the same samples. No key of the loss equals it.

It is compiled once, as a program of its own: its memory is free again when the step runs.
"""

from collections.abc import Callable

import jax
import numpy as np

from vidpref.training.plan import Plan
from vidpref.training.sharding import activation_rules, batch_sharding
from vidpref.training.state import TrainState
from vidpref.training.step import seen_by_loss
from vidpref.typing import Array, PyTree

Prepare = Callable[[PyTree, PyTree, PyTree, Array], PyTree]

# Step n of the loss has `fold_in(key, n)`; no run has as many steps as this.
_ROLLOUTS = np.uint32(2**32 - 1)


def make_rollout(prepare: Prepare, plan: Plan) -> Callable[[TrainState, PyTree, PyTree], PyTree]:
    """Returns the compiled `rollout(state, frozen, batch) -> batch`.

    Args:
        prepare: pure, see above.
        plan: plan of the run whose states are given.
    """

    def rollout(state: TrainState, frozen: PyTree, batch: PyTree) -> PyTree:
        key = jax.random.fold_in(jax.random.fold_in(state.key, _ROLLOUTS), state.step)
        frozen = seen_by_loss(frozen, state)
        policy = plan.tuning.policy(state.params, frozen, None)
        with activation_rules(plan.mesh):
            return prepare(policy, frozen, batch, key)

    rows = batch_sharding(plan.mesh)
    return jax.jit(rollout, in_shardings=(plan.shardings, None, rows), out_shardings=rows)
