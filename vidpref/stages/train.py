"""The one call through which every generator is trained, whole or by its adapters."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.datasets.clip_rows import ClipRows
from vidpref.datasets.pipeline import training_batches
from vidpref.generation.adapters import ADAPTERS, lora_policies, lora_spec
from vidpref.generation.generator import Generator
from vidpref.losses.alignment import AlignmentLoss, Policies, make_alignment_loss
from vidpref.models.lora import merge
from vidpref.objectives.alignment import OBJECTIVES
from vidpref.training.checkpoints import save_params
from vidpref.training.loop import fit
from vidpref.training.state import TrainState
from vidpref.training.step import LossFn
from vidpref.typing import Array, PyTree


def train(
    folder: Path,
    *,
    generator: Generator,
    rows: ClipRows,
    objective: str,
    hyper: Mapping[str, Any],
    config: ConfigDict,
    error_in: str,
    seed: int,
    mesh: Mesh,
    params: PyTree | None = None,
    reference: PyTree | None = None,
    beside: ClipRows | None = None,
    validate: Callable[[PyTree], dict[str, float]] | None = None,
) -> None:
    """Fits a generator to `rows` by an objective and writes `folder/params`.

    With `config.lora` only adapters are trained, and written to `folder/adapters` instead.

    Args:
        folder: checkpoints, metrics and the final parameters go here.
        generator: what to train.
        rows: the training rows.
        objective: name in `OBJECTIVES`.
        hyper: its hyper-parameters.
        config: a section with `train` (see `fit`) and, optionally, `reduction`,
            `condition_dropout`, `low_res_augmentation` and `lora`.
        error_in: space of the denoising error.
        seed: of parameters, batches and noise.
        mesh: devices.
        params: start here instead of at fresh parameters.
        reference: the reference policy, by default `params`.
        beside: real clips that are mixed in, one a row.
        validate: metrics of a policy at every checkpoint.
    """
    settings = config.train
    spec = lora_spec(config)
    frozen = {}
    follows = settings.get("reference_decay", 0.0) > 0  # then the training state holds it
    if OBJECTIVES[objective].needs_reference and not follows:
        frozen["reference"] = params if reference is None else reference
    policies, init, start, whole = None, generator.init, params, lambda trained: trained
    if spec is not None:
        boxed = jax.eval_shape(generator.init, jax.random.key(0))
        own_reference = reference is not None and not follows
        if not own_reference:
            frozen.pop("reference", None)
        frozen["base"] = params
        policies = lora_policies(spec, own_reference=own_reference)
        init, start = functools.partial(spec.init, base=boxed), None
        merged = jax.jit(merge, static_argnames="spec")  # the base is an argument, not a constant
        whole = functools.partial(merged, params, spec=spec)
    state = fit_rows(
        folder,
        generator_loss(generator, objective, hyper, config, error_in, policies),
        init,
        rows,
        settings,
        seed=seed,
        mesh=mesh,
        beside=beside,
        init_from=start,
        frozen=frozen,
        evaluate=None if validate is None else lambda p, step: validate(whole(p)),
    )
    trained = state.ema if settings.ema_decay else state.params
    save_params(folder / ("params" if spec is None else ADAPTERS), trained)


def fit_rows(
    folder: Path,
    loss_fn: LossFn,
    init: Callable[[Array], PyTree],
    rows: ClipRows,
    settings: ConfigDict,
    *,
    seed: int,
    mesh: Mesh,
    beside: ClipRows | None = None,
    **options: Any,
) -> TrainState:
    """Runs `fit` on batches of `rows`; the seed is that of batches, parameters and noise."""
    settings = settings.copy_and_resolve_references()
    with settings.unlocked():
        settings.seed = seed
    batches = training_batches(
        rows,
        batch_size=settings.batch_size,
        seed=seed,
        beside=beside,
        shapes=rows.shapes,
        shard=(jax.process_index(), jax.process_count()),
    )
    name = folder.name.rsplit("-", 1)[0]
    return fit(loss_fn, init, batches, settings, folder, mesh=mesh, name=name, **options)


def generator_loss(
    generator: Generator,
    objective: str,
    hyper: Mapping[str, Any],
    config: ConfigDict,
    error_in: str,
    policies: Policies | None = None,
) -> AlignmentLoss:
    """Returns the loss that `train` minimises; arguments as there."""
    return make_alignment_loss(
        generator.apply,
        generator.process,
        objective,
        dict(hyper),
        make_condition=generator.condition,
        error_in=error_in,
        reduction=config.get("reduction", "mean"),
        policies=policies,
        condition_dropout=config.get("condition_dropout", 0.0),
        low_res_augmentation=config.get("low_res_augmentation", 0.0),
    )
