"""LoRA in the stages: a base with adapters in the place of a generator's parameters."""

from pathlib import Path

import flax.struct
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.losses.alignment import Policies
from vidpref.models.lora import LoRA, merge
from vidpref.training.checkpoints import load_params
from vidpref.training.sharding import abstract_params
from vidpref.typing import Array, PyTree

ADAPTERS = "adapters"  # folder in that of a stage which trained adapters and not the network


@flax.struct.dataclass
class Adapted:
    """What `Generator.apply` takes instead of parameters.

    Attributes:
        base: parameters of the whole network.
        adapters: of `spec`; None is the base itself.
        spec: of the adapters.
        dropout_rng: None switches dropout off.
    """

    base: PyTree
    adapters: PyTree
    spec: LoRA = flax.struct.field(pytree_node=False)
    dropout_rng: PyTree = None


def lora_spec(config: ConfigDict) -> LoRA | None:
    """Returns the adapters that a section's `lora` asks for; None for full fine-tuning (rank 0).

    Raises:
        ValueError: a setting that cannot work; the message names it.
    """
    section = config.get("lora")
    if not section or not section.rank:
        return None
    return LoRA(
        rank=section.rank,
        alpha=float(section.alpha),
        targets=tuple(section.targets),
        dropout=float(section.dropout),
        zero=section.zero,
    )


def lora_policies(spec: LoRA, *, own_reference: bool) -> Policies:
    """Returns where the loss finds the two policies of adapters over `frozen["base"]`.

    Args:
        spec: of the adapters, which are what is trained.
        own_reference: whether `frozen["reference"]` is a network of its own. Otherwise the
            reference is the base with the adapters in `frozen["reference"]`, or without any.
    """

    def policy(trainable: PyTree, frozen: PyTree, rng: Array) -> Adapted:
        base = jax.lax.stop_gradient(frozen["base"])
        return Adapted(base, trainable, spec, rng if spec.dropout else None)

    def reference(frozen: PyTree) -> PyTree:
        if own_reference:
            return frozen["reference"]
        return Adapted(frozen["base"], frozen.get("reference"), spec)

    return Policies(policy, reference)


def load_adapters(folder: Path, spec: LoRA, base: PyTree, mesh: Mesh) -> PyTree:
    """Returns the adapters that a stage wrote.

    Args:
        folder: of the stage.
        spec: of the adapters.
        base: the network's parameters, boxed with their logical axis names; shapes are enough.
        mesh: where the adapters lie.
    """
    shapes = jax.eval_shape(lambda key: spec.init(key, base), jax.random.key(0))
    return load_params(folder / ADAPTERS, abstract_params(shapes, mesh))


def merge_into(base: PyTree, adapters: PyTree, spec: LoRA) -> PyTree:
    """Returns the base with the adapters merged into it; takes the memory of `base`."""
    return jax.jit(merge, static_argnames="spec", donate_argnums=0)(base, adapters, spec=spec)
