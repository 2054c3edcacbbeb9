"""The one training loop: batches in, checkpoints and metrics out."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.training.checkpoints import Checkpoints
from vidpref.training.metrics import MetricsWriter, Progress
from vidpref.training.optimizer import check_optimizer, learning_rate_schedule, make_optimizer
from vidpref.training.preemption import Preempted, PreemptionNotice
from vidpref.training.sharding import BATCH_AXES, replicated, whole_dimensions
from vidpref.training.state import TrainState, create_state, state_shardings
from vidpref.training.step import LossFn, make_train_step, put_batch
from vidpref.typing import Array, PyTree


class TrainingDiverged(RuntimeError):
    """A metric became NaN or infinite; the message names it, its step and what is left."""


def fit(
    loss_fn: LossFn,
    init: Callable[[Array], PyTree],
    batches: Iterator,
    config: ConfigDict,
    workdir: os.PathLike | str,
    *,
    mesh: Mesh,
    init_from: PyTree | None = None,
    frozen: PyTree | None = None,
    evaluate: Callable[[PyTree, int], Mapping[str, float]] | None = None,
    name: str = "train",
) -> TrainState:
    """Trains until `config.steps` and goes on from the latest checkpoint in `workdir`, if any.

    A run that was killed and started again ends with the same bits as one that was not.

    Args:
        loss_fn: `(trainable, frozen, batch, rng) -> (loss, metrics)`, pure, a mean over the batch.
        init: key -> parameters, boxed with logical names or not; shapes and shardings come from
            here even with `init_from`.
        batches: a grain iterator of this process's rows: dicts of numpy arrays, rows first.
        config: steps, batch_size (rows over all processes), accumulate, optimizer (see
            `check_optimizer`), ema_decay (0: off), log_every, checkpoint_every (0: none),
            keep_last, best_metric ("": off, see `Checkpoints`), seed; optionally reference_decay
            and reference_every (see `make_train_step`).
        workdir: gets checkpoints/, metrics.jsonl and tensorboard/.
        mesh: from `make_mesh`.
        init_from: parameters to fine-tune; they are copied and stay usable.
        frozen: what the loss needs besides, such as {"reference": params}.
        evaluate: `(params, step) -> metrics`, called before each checkpoint, with the moving
            average where there is one; its metrics join the step's.
        name: of the run, in messages.

    Returns:
        The state after the last step; with `best_metric`, that of the best checkpoint.

    Raises:
        ValueError: a bad setting or batch.
        TrainingDiverged: a NaN or Inf.
        Preempted: SIGTERM came; the run is saved.
    """
    check_config(config, mesh, name)
    workdir = Path(workdir)
    boxed = jax.eval_shape(init, jax.random.key(0))
    for line in whole_dimensions(boxed, mesh):
        logging.info("%s: not sharded: %s", name, line)
    schedule = learning_rate_schedule(config.optimizer, config.steps)
    optimizer = make_optimizer(config.optimizer, schedule, boxed)
    reference_decay = config.get("reference_decay", 0.0)
    abstract, shardings = state_shardings(
        init,
        optimizer,
        mesh,
        with_ema=config.ema_decay > 0,
        with_reference=reference_decay > 0,
    )
    train_step = make_train_step(
        loss_fn,
        optimizer,
        schedule,
        shardings,
        mesh,
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
        reference_decay=reference_decay,
        reference_every=config.get("reference_every", 1),
    )
    frozen = _on_mesh({} if frozen is None else frozen, mesh)

    with contextlib.ExitStack() as stack:
        state = checkpoints = None
        if config.checkpoint_every:
            checkpoints = stack.enter_context(
                Checkpoints(
                    workdir / "checkpoints",
                    keep_last=config.keep_last,
                    best_metric=config.best_metric,
                )
            )
            state = checkpoints.restore(abstract, batches)
        if state is None:
            state = create_state(init, optimizer, shardings, seed=config.seed, init_from=init_from)
        start = int(state.step)
        if start > config.steps:
            raise ValueError(f"{name}: {workdir} is at step {start}, after steps={config.steps}")
        first_process = jax.process_index() == 0
        writer = stack.enter_context(
            MetricsWriter(workdir, resume_step=start, enabled=first_process)
        )
        progress = stack.enter_context(
            Progress(name, total=config.steps, done=start, enabled=first_process)
        )
        if start:
            progress.say(f"{name}: goes on from step {start} of {config.steps}")
        record = _Recorder(name, config.log_every, writer, progress, checkpoints)
        notice = stack.enter_context(PreemptionNotice())

        late = None  # the step before: its metrics are read while the devices work on this one
        for step in range(start + 1, config.steps + 1):
            batch = put_batch(_next_batch(batches, config.batch_size, step, name), mesh)
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, frozen, batch)
            if late is not None:
                record.write(*late)
            late = (step, metrics)
            last, stop = step == config.steps, notice.came(step)
            due = checkpoints is not None and (last or step % config.checkpoint_every == 0)
            if not (due or last or stop):
                continue
            late = None
            policy = state.params if state.ema is None else state.ema
            more = evaluate(policy, step) if due and evaluate is not None else {}
            values = record.write(step, metrics, more, always=due)
            if checkpoints is not None:
                checkpoints.save(state, step, batches, values if due else None)
            if stop and not last:
                stopped = _preempted(name, step, checkpoints)
                progress.say(str(stopped))
                raise stopped

        if checkpoints is not None and config.best_metric:
            checkpoints.wait()
            best = checkpoints.best_step
            progress.say(f"{name}: best {config.best_metric} at step {best}")
            if best != config.steps:
                state = checkpoints.restore(abstract, None, step=best)
    return state


def check_config(config: ConfigDict, mesh: Mesh, name: str = "train") -> None:
    """Refuses settings that cannot work on this mesh.

    Args:
        config: as for `fit`.
        mesh: from `make_mesh`.
        name: of the run, for the message.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    check_optimizer(config.optimizer, f"{name}: optimizer")
    if mesh.shape["fsdp"] > 1 and mesh.shape["tensor"] > 1:
        raise ValueError(
            f"{name}: mesh.fsdp={mesh.shape['fsdp']} and mesh.tensor={mesh.shape['tensor']}: set "
            "one of them to 1. With both, XLA's partitioner computed wrong attention layers "
            "(jax 0.10.2, docs/measurements.md); each alone is exact"
        )
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    rules = {
        "steps": (config.steps >= 1, "1 or more"),
        "accumulate": (config.accumulate >= 1, "1 (off) or more"),
        "log_every": (config.log_every >= 1, "1 or more"),
        "checkpoint_every": (config.checkpoint_every >= 0, "0 (no checkpoints) or more"),
        "keep_last": (config.keep_last >= 1, "1 or more"),
        "ema_decay": (0 <= config.ema_decay < 1, "in [0, 1); 0 is off"),
        "reference_decay": (
            0 <= config.get("reference_decay", 0.0) < 1,
            "in [0, 1); 0 keeps the reference where it is",
        ),
        "reference_every": (config.get("reference_every", 1) >= 1, "1 or more"),
        "best_metric": (
            not config.best_metric or config.checkpoint_every,
            '"" where checkpoint_every is 0: the best checkpoint needs checkpoints',
        ),
    }
    for field, (good, wanted) in rules.items():
        if not good:
            raise ValueError(f"{name}: {field}={config.get(field)!r}: must be {wanted}")
    if config.batch_size < 1 or config.batch_size % (config.accumulate * devices):
        raise ValueError(
            f"{name}: batch_size={config.batch_size}: must be a multiple of accumulate "
            f"({config.accumulate}) times the devices on the mesh axes data and fsdp ({devices})"
        )


class _Recorder:
    """Reads a step's metrics from the devices, refuses NaN and Inf, writes what is to be kept."""

    def __init__(
        self,
        name: str,
        log_every: int,
        writer: MetricsWriter,
        progress: Progress,
        checkpoints: Checkpoints | None,
    ):
        self._name, self._log_every = name, log_every
        self._writer, self._progress, self._checkpoints = writer, progress, checkpoints

    def write(
        self,
        step: int,
        metrics: Mapping[str, Array],
        more: Mapping[str, float] | None = None,
        *,
        always: bool = False,
    ) -> dict[str, float]:
        read = jax.device_get(metrics)
        values = {key: float(read[key]) for key in sorted(read, key=lambda key: key != "loss")}
        for key, value in (more or {}).items():
            if key in values:
                raise ValueError(f"{self._name}: evaluate returns {key!r}, a name of the step's")
            values[key] = float(value)
        for key, value in values.items():
            if not math.isfinite(value):
                raise TrainingDiverged(self._divergence(step, key, value))
        logged = always or step % self._log_every == 0
        if logged:
            self._writer.write(step, values)
        self._progress.update(1, f"loss {values['loss']:.4g}" if logged else "")
        return values

    def _divergence(self, step: int, metric: str, value: float) -> str:
        message = f"{self._name}: step {step}: {metric} is {value}. "
        if self._checkpoints is None:
            return message + "No checkpoint (checkpoint_every=0)."
        self._checkpoints.wait()
        good = self._checkpoints.latest_step
        if good is None:
            return message + "No checkpoint before it. Try a smaller learning rate."
        return message + f"The last good checkpoint is step {good}: {self._checkpoints.path(good)}"


def _preempted(name: str, step: int, checkpoints: Checkpoints | None) -> Preempted:
    if checkpoints is None:
        return Preempted(f"{name}: stopped at step {step}; nothing saved (checkpoint_every=0)")
    checkpoints.wait()
    return Preempted(f"{name}: stopped at step {step}, saved to {checkpoints.path(step)}")


def _next_batch(batches: Iterator, rows: int, step: int, name: str) -> PyTree:
    try:
        batch = next(batches)
    except StopIteration:
        raise ValueError(
            f"{name}: the batches ended before step {step}; training needs an endless iterator"
        ) from None
    own = rows // jax.process_count()
    for leaf in jax.tree.leaves(batch):
        if leaf.shape[:1] != (own,):
            raise ValueError(
                f"{name}: step {step}: a batch array has shape {leaf.shape}; its first axis must "
                f"be {own} (batch_size={rows} over {jax.process_count()} processes)"
            )
    return batch


def _on_mesh(tree: PyTree, mesh: Mesh) -> PyTree:
    """Keeps arrays that lie on the mesh; puts every other leaf on all of its devices."""
    devices = set(mesh.devices.flat)

    def place(x: PyTree) -> Array:
        if isinstance(x, jax.Array) and x.sharding.device_set == devices:
            return x
        return jax.device_put(x, replicated(mesh))

    return jax.tree.map(place, tree)
