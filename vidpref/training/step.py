"""One training step: gradients of a loss, an update, and what to know about it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidpref.training.processes import share_of
from vidpref.training.sharding import (
    BATCH_AXES,
    activation_rules,
    batch_sharding,
    replicated,
)
from vidpref.training.state import TrainState
from vidpref.typing import Array, PyTree

LossFn = Callable[[PyTree, PyTree, PyTree, Array], tuple[Array, dict[str, Array]]]
Decay = float | Callable[[Any], Any]
# A jitted function: it can be called, and lowered from shapes.
TrainStep = Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict[str, Array]]]


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    schedule: Callable[[Any], Any],
    shardings: TrainState,
    mesh: Mesh,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    reference_decay: Decay = 0.0,
    reference_every: int = 1,
) -> TrainStep:
    """Returns the compiled `step(state, frozen, batch) -> (state, metrics)`; it donates `state`.

    Metrics are scalars on the devices: the loss and its own metrics (means over the batch),
    `grad_norm` (before clipping), `update_norm`, `param_norm` (after the update) and
    `learning_rate`.

    Args:
        loss_fn: `(trainable, frozen, batch, rng) -> (loss, metrics)`, pure, a mean over the batch.
            A loss whose mean is over what counts, such as rows with weights, has
            `counts(batch) -> {name: number}`: what the loss ("loss") and its metrics were divided
            by, those of the loss where a metric is not named. Microbatches then weigh by it, so
            that the sum over all of them is divided once. A loss whose rows depend on each other
            says so by `needs_statistics`: under accumulation the mean of its
            `statistics(trainable, frozen, batch, rng)` over the microbatches then stands in
            `frozen["statistics"]`.
        optimizer: from `make_optimizer`.
        schedule: step -> learning rate, for the metrics.
        shardings: from `state_shardings`.
        mesh: from `make_mesh`.
        accumulate: microbatches in one step. Microbatch i holds rows i, i + accumulate, ... so
            that every device works on its own rows.
        ema_decay: `ema <- decay * ema + (1 - decay) * params`; 0 for none.
        reference_decay: the same for `state.reference`, where the state has one, every
            `reference_every` steps; the loss finds it in `frozen["reference"]` (RealDPO eq. 7).
            A function of the number of steps done, this one too, is a metric besides.
        reference_every: see `reference_decay`.
    """
    gradients = _gradients(loss_fn, accumulate, mesh)

    def step(
        state: TrainState, frozen: PyTree, batch: PyTree
    ) -> tuple[TrainState, dict[str, Array]]:
        rng = jax.random.fold_in(state.key, state.step)
        with activation_rules(mesh):
            (loss, metrics), grads = gradients(
                state.params, seen_by_loss(frozen, state), batch, rng
            )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = optax.incremental_update(params, ema, 1.0 - ema_decay)
        reference = state.reference
        if reference is not None:
            decay = reference_decay
            if callable(decay):
                decay = jnp.float32(decay(state.step + 1))
                metrics = metrics | {"reference_decay": decay}
            moved = optax.incremental_update(params, reference, 1.0 - decay)
            due = (state.step + 1) % reference_every == 0
            reference = jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, reference)
        metrics = {
            "loss": loss,
            **metrics,
            "grad_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(updates),
            "param_norm": optax.tree.norm(params),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        state = state.replace(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            ema=ema,
            reference=reference,
        )
        return state, metrics

    return jax.jit(
        step,
        in_shardings=(shardings, None, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def seen_by_loss(frozen: PyTree, state: TrainState) -> PyTree:
    """Returns what the loss gets besides the trainable parameters: a reference that follows too."""
    return frozen if state.reference is None else {**frozen, "reference": state.reference}


def put_batch(batch: PyTree, mesh: Mesh, size: int | None = None) -> PyTree:
    """Makes the global batch, over data and fsdp, from the rows that this process holds.

    Args:
        batch: numpy arrays, rows first.
        mesh: from `make_mesh`.
        size: rows of the global batch; None: those given, of one process.

    Raises:
        ValueError: other rows than those of `Share.held`.
    """
    if size is None:
        size = len(jax.tree.leaves(batch)[0])
    return share_of(batch_sharding(mesh), size).place(batch)


def _gradients(loss_fn: LossFn, accumulate: int, mesh: Mesh) -> Callable[..., PyTree]:
    """`((loss, metrics), gradients)` of a batch, as weighted means over its microbatches."""
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    if accumulate == 1:
        return value_and_grad
    counts = getattr(loss_fn, "counts", lambda batch: {})

    def gradients(params: PyTree, frozen: PyTree, batch: PyTree, rng: Array) -> PyTree:
        numbered = jnp.arange(accumulate), _microbatches(batch, accumulate, mesh)
        if getattr(loss_fn, "needs_statistics", False):

            def statistics(numbered: tuple[Array, PyTree]) -> PyTree:
                number, microbatch = numbered
                return loss_fn.statistics(
                    params, frozen, microbatch, jax.random.fold_in(rng, number)
                )

            found = jax.lax.map(statistics, numbered)
            frozen = {**frozen, "statistics": jax.tree.map(lambda x: x.mean(axis=0), found)}

        def microstep(numbered: tuple[Array, PyTree]) -> PyTree:
            number, microbatch = numbered
            result = value_and_grad(params, frozen, microbatch, jax.random.fold_in(rng, number))
            (_, metrics), _ = result
            weights = _weights(counts(microbatch), metrics)
            return _weighed(jnp.multiply, result, weights), weights

        def add(total: PyTree, numbered: tuple[Array, PyTree]) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, microstep(numbered)), None

        shapes = jax.eval_shape(microstep, jax.tree.map(lambda x: x[0], numbered))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (total, weights), _ = jax.lax.scan(add, zeros, numbered)
        return _weighed(jnp.divide, total, weights)

    return gradients


def _weights(counts: dict[str, Array], metrics: dict[str, Array]) -> dict[str, Array]:
    """What a microbatch weighs in the loss and in each metric; alike where nothing counts."""
    least = jnp.finfo(jnp.float32).tiny * 1e6
    of_loss = counts.get("loss", 1.0)
    found = {name: counts.get(name, of_loss) for name in ("loss", *metrics)}
    return {name: jnp.maximum(jnp.float32(count), least) for name, count in found.items()}


def _weighed(op: Callable, result: PyTree, weights: dict[str, Array]) -> PyTree:
    """Multiplies or divides loss, metrics and gradients by their weights."""
    (loss, metrics), grads = result
    metrics = {name: op(value, weights[name]) for name, value in metrics.items()}
    of_grads = jax.tree.map(lambda x: op(x, weights["loss"]), grads)
    return (op(loss, weights["loss"]), metrics), of_grads


def _microbatches(batch: PyTree, accumulate: int, mesh: Mesh) -> PyTree:
    sharding = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES))

    def split(x: Array) -> Array:
        strided = x.reshape(x.shape[0] // accumulate, accumulate, *x.shape[1:])
        return jax.lax.with_sharding_constraint(jnp.moveaxis(strided, 1, 0), sharding)

    return jax.tree.map(split, batch)
