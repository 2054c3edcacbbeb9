"""Whether the clips of a batch, or the tokens of each, can be divided over a mesh."""

import jax
from absl import logging

from vidpref.models.registry import BACKBONES
from vidpref.stages.train import Training
from vidpref.training.sharding import activation_rules, row_shards
from vidpref.typing import Array


def check_division(training: Training) -> None:
    """Refuses a training whose clips the mesh axis context cannot divide; nothing is computed.

    Context divides the clips that go through the network at once where there are enough of them,
    otherwise the tokens of each. A network that cannot do that repeats work, which is only said.

    Raises:
        ValueError: a clip has fewer tokens than context, or the network fewer heads.
    """
    mesh, settings, module = training.plan.mesh, training.plan.settings, training.generator.module
    context = mesh.shape["context"]
    clips = settings.batch_size // settings.accumulate * training.row.k
    devices = context * row_shards(mesh)
    if context == 1 or clips % devices == 0:
        return
    if not any(b.divides_tokens and isinstance(module, b.module) for b in BACKBONES.values()):
        logging.warning(
            "%s: mesh.context=%d repeats work: a step's %d clips do not divide over the %d devices "
            "of data, fsdp and context, and %s cannot divide the tokens of one clip; lower "
            "mesh.context, or have more clips in a batch",
            training.plan.name,
            context,
            clips,
            devices,
            type(module).__name__,
        )
        return

    def several(leaf: Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((clips, *leaf.shape[1:]), leaf.dtype)

    example = jax.tree.map(several, training.generator.example())
    with activation_rules(mesh):
        jax.eval_shape(module.init, jax.random.key(0), *example)
