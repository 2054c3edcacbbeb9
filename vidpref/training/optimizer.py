"""Optimizers by config: Adam, AdamW or Muon, with clipping, warm-up and decay."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vidpref.config.fields import check_section
from vidpref.config.training import Optimizer
from vidpref.training.sharding import is_boxed, logical_names
from vidpref.typing import PyTree

Schedule = Callable[[Any], Any]


def check_optimizer(config: ConfigDict, where: str = "optimizer") -> None:
    """Refuses settings that cannot work.

    Args:
        config: name, learning_rate, warmup_steps, decay, clip_norm (0: off), weight_decay, b1, b2.
        where: path of `config`, for the message.

    Raises:
        ValueError: a bad value; the message names the field.
    """
    check_section(Optimizer, config, where)
    if config.name == "adam" and config.weight_decay:
        raise ValueError(
            f"{where}.weight_decay={config.weight_decay}: adam has no weight decay; "
            f"set {where}.name to adamw, or the decay to 0"
        )


def learning_rate_schedule(config: ConfigDict, steps: int) -> Schedule:
    """Returns the learning rate as a function of the 0-based step.

    It rises by equal parts to `learning_rate` over `warmup_steps` (the first step already moves),
    then stays, or falls linearly or as a half cosine to reach 0 after `steps`.

    Args:
        config: the optimizer section.
        steps: length of the run.
    """
    warmup = config.warmup_steps

    def schedule(step: Any) -> Any:
        rise = jnp.minimum(1.0, (step + 1) / max(warmup, 1))
        progress = jnp.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
        fall = {
            "constant": 1.0,
            "linear": 1.0 - progress,
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
        }[config.decay]
        return config.learning_rate * rise * fall

    return schedule


def make_optimizer(
    config: ConfigDict, schedule: Schedule, boxed_abstract: PyTree
) -> optax.GradientTransformation:
    """Returns the optimizer of a config.

    Weight decay is decoupled and touches matrices only. Muon (Jordan et al. 2024, optax.contrib)
    orthogonalises the update of every matrix; layers stacked by a scan are a batch of matrices, a
    convolution kernel `[h, w, in, out]` is the matrix `[h*w*in, out]`. Everything else, and the
    layers that `adam_layers` names, goes to Adam with Nesterov momentum.

    Args:
        config: the optimizer section, see `check_optimizer`. Muon also reads `adam_layers`, a
            regular expression searched in parameter paths (such as "^(stem|head)/", the layers
            next to the data), and `adam_learning_rate` (0: `learning_rate`).
        schedule: step -> learning rate.
        boxed_abstract: parameters with their logical names, as for `param_shardings`.
    """
    matrices = matrix_dimensions(boxed_abstract)
    if config.name == "adam":
        core = optax.adam(schedule, b1=config.b1, b2=config.b2)
    elif config.name == "adamw":
        core = optax.adamw(
            schedule,
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=jax.tree.map(lambda m: m is not None, matrices, is_leaf=_is_dimensions),
        )
    else:
        core = _muon(config, schedule, matrices)
    if not config.clip_norm:
        return core
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), core)


def _muon(config: ConfigDict, schedule: Schedule, matrices: PyTree) -> optax.GradientTransformation:
    adam_layers = config.adam_layers
    ratio = (config.adam_learning_rate or config.learning_rate) / config.learning_rate

    def keep(path: Any, dimensions: PyTree) -> PyTree:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return None if adam_layers and re.search(adam_layers, name) else dimensions

    return optax.contrib.muon(
        schedule,
        weight_decay=config.weight_decay,
        adam_b1=config.b1,
        adam_b2=config.b2,
        adam_learning_rate=lambda step: ratio * schedule(step),
        muon_weight_dimension_numbers=jax.tree_util.tree_map_with_path(
            keep, matrices, is_leaf=_is_dimensions
        ),
    )


def matrix_dimensions(boxed_abstract: PyTree) -> PyTree:
    """Returns, for each parameter, which dimensions make it a matrix; None for all others.

    By logical names: "out" (without it: what follows "in") is the output, "layers" a batch, and
    the rest is summed over. Unnamed kernels of two dimensions are `[in, out]`, of four or five a
    convolution. The factors of a LoRA are [.., in, rank] and [rank, .., out].

    Args:
        boxed_abstract: parameters with their logical names.
    """

    def one(path: Any, leaf: Any) -> optax.contrib.MuonDimensionNumbers | None:
        names = logical_names(leaf)
        own = [i for i, name in enumerate(names) if name != "layers"]
        last = jax.tree_util.keystr(path[-1:], simple=True)
        if not is_boxed(leaf):
            output = own[-1:] if last == "kernel" and len(names) in (2, 4, 5) else []
        elif last in ("a", "b"):
            output = own[-1:] if last == "a" else own[1:]
        elif "vocab" in names:
            output = []
        elif "out" in names:
            output = [names.index("out")]
        else:
            output = own[own.index(names.index("in")) + 1 :] if "in" in names else []
        reduction = [i for i in own if i not in output]
        if not output or not reduction:
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(reduction), tuple(output))

    return jax.tree_util.tree_map_with_path(one, boxed_abstract, is_leaf=is_boxed)


def _is_dimensions(x: Any) -> bool:
    return x is None or isinstance(x, optax.contrib.MuonDimensionNumbers)
