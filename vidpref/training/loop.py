"""The one training loop: batches in, checkpoints and metrics out."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grain.experimental
import jax
from jax.sharding import Mesh

from vidpref.coordination.agreeing import barrier
from vidpref.coordination.stalls import watched_steps
from vidpref.coordination.stopping import grace
from vidpref.training.checkpoints import Checkpoints
from vidpref.training.metrics import MetricsWriter, Progress
from vidpref.training.pace import Pace
from vidpref.training.plan import Plan
from vidpref.training.preemption import Preempted, PreemptionNotice
from vidpref.training.processes import Share, share_of
from vidpref.training.rollouts import Rollout
from vidpref.training.sharding import batch_sharding, replicated
from vidpref.training.state import TrainState
from vidpref.typing import Array, PyTree

_SHOWN = ("loss", "leash", "saturation")  # beside the progress, where a run has them


class TrainingDiverged(RuntimeError):
    """A metric became NaN or infinite; the message names it, its step and what is left."""


def fit(
    plan: Plan,
    batches: Iterator,
    workdir: os.PathLike | str,
    *,
    seed: int = 0,
    start: PyTree | None = None,
    frozen: PyTree | None = None,
    rollout: Rollout | None = None,
    evaluate: Callable[[PyTree, int], Mapping[str, float]] | None = None,
    warning: Callable[[Mapping[str, float]], str] | None = None,
) -> TrainState:
    """Trains until `plan.settings.steps`, from the latest checkpoint in `workdir`, if any.

    A run that was killed and started again ends with the same bits as one that was not.

    Args:
        plan: the run, from `make_plan`.
        batches: a grain iterator of the rows that this process holds (`Share.held`): dicts of numpy
            arrays, rows first. Batch n is that of step n, whatever was asked for before.
        workdir: gets checkpoints/, metrics.jsonl and tensorboard/.
        seed: seed of fresh parameters and of all noise.
        start: trainable parameters to start from; they are copied and stay usable.
        frozen: what the loss needs besides, from `plan.tuning.frozen`.
        rollout: what the policy in training draws from a batch before a step learns from it.
        evaluate: `(trainable, step) -> metrics`, called before each checkpoint, with the moving
            average where there is one; its metrics join the step's.
        warning: called once, with the means of the metrics over the steps up to the first that is
            logged; what it returns is printed, "" for nothing.

    Returns:
        The state after the last step, which may be one at which the rollout ends training; with
        `best_metric`, that of the best checkpoint.

    Raises:
        ValueError: a bad batch, or a checkpoint of another run.
        TrainingDiverged: a NaN or Inf.
        Preempted: SIGTERM came; the run is saved.
    """
    name, settings, mesh = plan.name, plan.settings, plan.mesh
    best_metric = settings.best_metric
    workdir = Path(workdir)
    frozen = _on_mesh({} if frozen is None else frozen, mesh)
    share = share_of(batch_sharding(mesh), settings.batch_size)

    with contextlib.ExitStack() as stack:
        state = checkpoints = None
        if settings.checkpoint_every:
            checkpoints = stack.enter_context(
                Checkpoints(
                    workdir / "checkpoints",
                    keep_last=settings.keep_last,
                    best_metric=best_metric,
                )
            )
            state = checkpoints.restore(plan.state)
        if state is None:
            state = plan.create(seed, start)
        done = int(state.step)
        if done > settings.steps:
            raise ValueError(f"{name}: {workdir} is at step {done}, after steps={settings.steps}")
        first_process = jax.process_index() == 0
        writer = stack.enter_context(
            MetricsWriter(workdir, resume_step=done, enabled=first_process)
        )
        progress = stack.enter_context(
            Progress(name, total=settings.steps, done=done, enabled=first_process)
        )
        if done:  # batch n is that of step n, for any number of processes
            grain.experimental.set_next_index(batches, done)
            progress.say(f"{name}: goes on from step {done} of {settings.steps}")
        record = _Recorder(name, settings.log_every, writer, progress, checkpoints, warning)
        notice = stack.enter_context(PreemptionNotice())
        pace = Pace(name, settings.log_every, settings.checkpoint_minutes)
        watchdog = stack.enter_context(watched_steps(name))
        barrier(f"{name} starts")  # the first process alone opens files, and imports what writes

        def save(step: int, metrics: Mapping[str, Array], times: dict, due: bool) -> None:
            policy = state.params if state.ema is None else state.ema
            more = evaluate(policy, step) if due and evaluate is not None else {}
            values = record.write(step, metrics, times | dict(more), always=due)
            if checkpoints is not None:
                writer.keep()  # before: a run goes on with the lines up to its checkpoint
                checkpoints.save(state, step, values if due else None)
                pace.saved()

        late = None  # the step before: its metrics are read while the devices work on this one
        drawn, told = None, {}
        for step in range(done + 1, settings.steps + 1):
            with pace.own_work():
                batch = _next_batch(batches, share, step, name)
                if rollout is None or rollout.draws_at(step):
                    batch = share.place(batch)
            if rollout is not None and rollout.draws_at(step):
                drawn = None  # its memory is free for the next
                drawn, told = rollout(state, frozen, batch, step)
                if rollout.ended is not None and (why := rollout.ended()):
                    progress.say(f"{name}: ends after step {step - 1} of {settings.steps}: {why}")
                    if late is not None:
                        save(*late, due=checkpoints is not None)
                    break
            with jax.transfer_guard("disallow"):
                if rollout is not None:
                    batch = rollout.part(drawn, step, mesh)
                state, metrics = plan.step(state, frozen, batch)
            metrics |= told
            if late is not None:
                record.write(*late)
            if watchdog is not None:
                watchdog.step()
            times, by_time, slow = pace.at(step)
            record.tell(slow)
            late = (step, metrics, times)
            last, stop = step == settings.steps, notice.came()
            if not (last or rollout is None or rollout.draws_at(step + 1)):
                continue  # a run goes on with a drawing
            due = checkpoints is not None and (last or step % settings.checkpoint_every == 0)
            by_time = by_time and checkpoints is not None
            if not (due or last or stop or by_time):
                continue
            late = None
            save(step, metrics, times, due)
            if stop and not last:
                stopped = _preempted(name, step, checkpoints)
                progress.say(str(stopped))
                raise stopped

        if checkpoints is not None:
            checkpoints.wait()
            record.tell("")
        if checkpoints is not None and best_metric:
            best = checkpoints.best_step
            progress.say(f"{name}: best {best_metric} at step {best}")
            if best != int(state.step):
                state = checkpoints.restore(plan.state, step=best)
    return state


class _Recorder:
    """Reads a step's metrics from the devices, refuses NaN and Inf, writes what is to be kept."""

    def __init__(
        self,
        name: str,
        log_every: int,
        writer: MetricsWriter,
        progress: Progress,
        checkpoints: Checkpoints | None,
        warning: Callable[[Mapping[str, float]], str] | None,
    ):
        self._name, self._log_every = name, log_every
        self._writer, self._progress, self._checkpoints = writer, progress, checkpoints
        self._warning, self._seen = warning, []
        self._told = False

    def tell(self, warning: str) -> None:
        """Prints a warning, "" for none, and once what a checkpoint weighs and takes."""
        if warning:
            self._progress.say(warning)
        saved = None if self._checkpoints is None else self._checkpoints.saved()
        if saved is None or self._told:
            return
        step, size, seconds = saved
        self._told = True
        said = f"{self._name}: checkpoint of step {step}: {size / 1e9:.3g} GB in {seconds:.3g} s"
        if seconds > grace():
            said += (
                f", longer than the {grace():.0f} s that a host has after SIGTERM "
                "(config.hosts.grace_seconds): a stop loses what came after the last one, at most "
                "checkpoint_minutes"
            )
        self._progress.say(said)

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
        own = dict(values)
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
        shown = [f"{key} {values[key]:.4g}" for key in _SHOWN if key in values]
        self._progress.update(1, ", ".join(shown) if logged else "")
        self._warn(own, logged)
        return values

    def _warn(self, values: dict[str, float], logged: bool) -> None:
        """Tells the user once what the first steps, up to one that is logged, give reason to."""
        if self._warning is None:
            return
        self._seen.append(values)
        if not logged:
            return
        means = {key: sum(v[key] for v in self._seen) / len(self._seen) for key in values}
        if said := self._warning(means):
            self._progress.say(f"{self._name}: warning: {said}")
        self._warning, self._seen = None, []

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


def _next_batch(batches: Iterator, share: Share, step: int, name: str) -> PyTree:
    try:
        batch = next(batches)
    except StopIteration:
        raise ValueError(
            f"{name}: the batches ended before step {step}; training needs an endless iterator"
        ) from None
    own = len(share.held)
    for leaf in jax.tree.leaves(batch):
        if leaf.shape[:1] != (own,):
            raise ValueError(
                f"{name}: step {step}: a batch array has shape {leaf.shape}; its first axis must "
                f"be {own} (of batch_size={share.size}, what the devices of this process hold)"
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
