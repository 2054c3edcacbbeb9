"""A training run before it starts: its state in shapes, where that lies, and its compiled step."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.fields import check_section
from vidpref.config.training import AlignTrain
from vidpref.training.optimizer import check_optimizer, learning_rate_schedule, make_optimizer
from vidpref.training.sharding import row_shards, whole_dimensions
from vidpref.training.state import TrainState, create_state, state_shardings
from vidpref.training.step import Decay, LossFn, TrainStep, make_train_step
from vidpref.training.tuning import Tuning
from vidpref.typing import PyTree


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `fit` runs and a compiler can be asked about; it holds no array.

    Attributes:
        name: name of the run, in messages.
        tuning: what is trained.
        settings: see `make_plan`.
        mesh: devices.
        optimizer: makes its own part of the state.
        state: shapes and shardings of the whole state.
        shardings: shardings of the state.
        step: `(state, frozen, batch) -> (state, metrics)`, see `make_train_step`.
    """

    name: str
    tuning: Tuning
    settings: ConfigDict
    mesh: Mesh
    optimizer: optax.GradientTransformation
    state: TrainState
    shardings: TrainState
    step: TrainStep

    def create(self, seed: int, start: PyTree | None = None) -> TrainState:
        """Returns the state of step 0, see `create_state`.

        Args:
            seed: seed of the parameters and of the training noise.
            start: trainable parameters to start from instead of fresh ones.
        """
        return create_state(
            self.tuning.init, self.optimizer, self.shardings, seed=seed, init_from=start
        )

    def lower(self, frozen: PyTree, batch: PyTree) -> jax.stages.Lowered:
        """Returns the step, lowered for the mesh, which may be one without devices.

        Args:
            frozen: what the loss needs besides, as `jax.ShapeDtypeStruct`s with shardings.
            batch: the global batch, likewise.
        """
        return self.step.lower(self.state, frozen, batch)


def make_plan(
    tuning: Tuning,
    loss_fn: LossFn,
    settings: ConfigDict,
    mesh: Mesh,
    *,
    name: str = "train",
    follows: bool | None = None,
) -> Plan:
    """Returns the plan of a run; allocates nothing.

    Args:
        tuning: what is trained; shapes and shardings come from its `init`.
        loss_fn: `(trainable, frozen, batch, rng) -> (loss, metrics)`, see `make_train_step`.
        settings: all fields of `AlignTrain`, as of `loop_settings`; see also `check_optimizer`,
            `Checkpoints` for best_metric, and `make_train_step` for reference_decay.
        mesh: devices, from `make_mesh`.
        name: name of the run, in messages.
        follows: whether the training state holds a reference that follows the policy, with
            `reference_decay` 0 as a copy; None: where `reference_decay` is not 0.

    Raises:
        ValueError: a setting that cannot work.
    """
    check_config(settings, mesh, name)
    boxed = jax.eval_shape(tuning.init, jax.random.key(0))
    for line in whole_dimensions(boxed, mesh):
        logging.info("%s: not sharded: %s", name, line)
    schedule = learning_rate_schedule(settings.optimizer, settings.steps)
    optimizer = make_optimizer(settings.optimizer, schedule, boxed)
    follows = settings.reference_decay > 0 if follows is None else follows
    state, shardings = state_shardings(
        tuning.init,
        optimizer,
        mesh,
        with_ema=settings.ema_decay > 0,
        with_reference=follows,
    )
    step = make_train_step(
        loss_fn,
        optimizer,
        schedule,
        shardings,
        mesh,
        accumulate=settings.accumulate,
        ema_decay=settings.ema_decay,
        reference_decay=reference_decay(settings),
        reference_every=settings.reference_every,
    )
    return Plan(name, tuning, settings, mesh, optimizer, state, shardings, step)


def reference_decay(settings: ConfigDict) -> Decay:
    """Returns the decay of a reference that follows: a number, or a function of the steps done.

    DiffusionNFT's code lets it rise from 0, which is on-policy, by `reference_rise` a step once
    `reference_flat` steps are done, up to `reference_decay`.

    Args:
        settings: see `make_plan`.
    """
    most, rise, flat = (
        settings.reference_decay,
        settings.reference_rise,
        settings.reference_flat,
    )
    if not rise:
        return most
    return lambda step: jnp.clip((step - flat) * rise, 0.0, most)


def check_config(config: ConfigDict, mesh: Mesh, name: str = "train") -> None:
    """Refuses settings that cannot work on this mesh.

    Args:
        config: settings as for `make_plan`.
        mesh: devices, from `make_mesh`.
        name: name of the run, for the message.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    check_section(AlignTrain, config, name)
    check_optimizer(config.optimizer, f"{name}: optimizer")
    if config.best_metric and not config.checkpoint_every:
        raise ValueError(
            f"{name}: best_metric={config.best_metric!r} with checkpoint_every=0: the best "
            "checkpoint needs checkpoints"
        )
    devices = row_shards(mesh)
    if config.batch_size % (config.accumulate * devices):
        raise ValueError(
            f"{name}: batch_size={config.batch_size}: must be a multiple of accumulate "
            f"({config.accumulate}) times the devices on the mesh axes data and fsdp ({devices})"
        )
