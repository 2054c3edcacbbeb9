"""What outlives a process: checkpoints of a run, and the final parameters of a stage."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from vidpref.coordination.time_spent import SAVING, counted, keep, work
from vidpref.storage.mirror import address
from vidpref.training.state import TrainState
from vidpref.typing import PyTree

_STATE = "state"


class Checkpoints:
    """Checkpoints of one run, written in the background: the train state, by its step.

    A checkpoint appears by one rename, in a bucket by one object, so a kill never leaves half of
    one. The last `keep_last` stay, and the best one.

    Args:
        directory: holds one folder a step.
        keep_last: how many of the latest to keep.
        best_metric: the metric that ranks checkpoints; the larger the better, or the smaller with
            a leading "-", as in "-loss"; "" for none.
    """

    def __init__(self, directory: os.PathLike | str, *, keep_last: int, best_metric: str = ""):
        self._directory = _place(directory)
        self._best_metric = best_metric
        policies = [preservation_policy.LatestN(keep_last)]
        if best_metric:
            policies.append(
                preservation_policy.BestN(
                    get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
                )
            )
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_names=(_STATE,),
            item_handlers={_STATE: ocp.StandardCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
                best_fn=self._score if best_metric else None,
                cleanup_tmp_directories=True,
            ),
        )
        self._saving: tuple[int, float, float] | None = None  # step, bytes, when it began
        self._ended: tuple[int, float, float] | None = None  # step, bytes, seconds
        self._made = 0.0  # what is being saved: see `time_spent.keep`

    def save(self, state: TrainState, step: int, metrics: Mapping[str, float] | None) -> None:
        """Starts to save; returns when `state` may be donated.

        Args:
            state: after `step` updates.
            step: names the checkpoint.
            metrics: metrics of the step, all finite; None keeps the checkpoint out of the ranking.

        Raises:
            ValueError: the metrics lack `best_metric`.
        """
        name = self._best_metric.removeprefix("-")
        if name and metrics is not None and name not in metrics:
            raise ValueError(
                f"best_metric={self._best_metric!r}: the metrics at a checkpoint are "
                + ", ".join(sorted(metrics))
            )
        if self._saving is not None:
            self.wait()  # as the next save would
            self._end()
        size = sum(x.nbytes for x in jax.tree.leaves(state))
        self._saving, self._made = (step, float(size), time.monotonic()), work()
        with counted(SAVING):
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
                metrics=None if metrics is None else dict(metrics),
            )

    def saved(self) -> tuple[int, float, float] | None:
        """Returns step, bytes and seconds of a save that has ended since the last call, or None.

        Seconds are from the call of `save` to when this was first asked after the end.
        """
        if self._saving is not None and not self._manager.is_saving_in_progress():
            self._end()
        ended, self._ended = self._ended, None
        return ended

    def restore(self, abstract: TrainState, step: int | None = None) -> TrainState | None:
        """Returns the state of a checkpoint.

        Mesh and number of processes may be others than those that saved.

        Args:
            abstract: shapes and shardings of the state.
            step: default the latest.

        Returns:
            None where there is no checkpoint.

        Raises:
            ValueError: the checkpoint holds another state, say of another model or optimizer.
        """
        step = self.latest_step if step is None else step
        if step is None:
            return None
        args = {_STATE: ocp.args.StandardRestore(abstract)}
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**args))[_STATE]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the checkpoint {self.path(step)} does not fit this run's model, optimizer or "
                "data; use another workdir, or remove the checkpoint to start over"
            ) from error

    @property
    def latest_step(self) -> int | None:
        """The step of the latest finished checkpoint, or None."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint by the metric (the latest without one), or None."""
        return self._manager.best_step()

    def steps(self) -> list[int]:
        """The steps that are kept."""
        return list(self._manager.all_steps())

    def path(self, step: int) -> str:
        """The folder of a checkpoint."""
        return str(self._directory / str(step))

    def wait(self) -> None:
        """Waits until what was saved is on disk."""
        with counted(SAVING):
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def _end(self) -> None:
        (step, size, start), self._saving = self._saving, None
        self._ended = step, size, time.monotonic() - start
        keep(self._made)

    def _score(self, metrics: Mapping[str, Any]) -> float:
        sign = -1.0 if self._best_metric.startswith("-") else 1.0
        return sign * metrics[self._best_metric.removeprefix("-")]


def save_params(path: os.PathLike | str, params: PyTree) -> None:
    """Writes parameters to the folder `path`, all or nothing; replaces what was there.

    Args:
        path: the folder; in a pod all processes call this with one path.
        params: arrays, sharded or not.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(_place(path), params, force=True)


def load_params(path: os.PathLike | str, abstract: PyTree) -> PyTree:
    """Reads what `save_params` wrote, onto any mesh.

    Args:
        path: the folder.
        abstract: `jax.ShapeDtypeStruct`s with shardings, see `sharding.abstract_params`.

    Raises:
        FileNotFoundError: nothing was saved there.
        ValueError: other parameters were saved there.
    """
    path = _place(path)
    if not path.exists():
        raise FileNotFoundError(f"no parameters at {path}")
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            return checkpointer.restore(path, abstract)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the parameters at {path} are not those of this model; were they trained with "
                "another config.model?"
            ) from error


def _place(path: os.PathLike | str) -> epath.Path:
    """Where Orbax reads and writes: the bucket itself, if the path stands for a place in one."""
    return epath.Path(address(Path(path).resolve()))
