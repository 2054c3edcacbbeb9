"""One of two processes that load a pipeline's transformer and export it.

`python export_in_two_processes.py RANK PORT SOURCE OUT`
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.two_processes import joined
from vidpref.interop.export import export_pipeline
from vidpref.interop.pipelines import PipelineFolder
from vidpref.models.condition import Condition


def main(source: Path, out: Path) -> None:
    mesh = Mesh(np.array(jax.devices()), ("fsdp",))
    folder = PipelineFolder(source)
    module = folder.transformer()
    x = jnp.zeros((1, 1, 2, 2, module.in_channels))
    condition = Condition(jnp.zeros((1, 1, module.text_dim)), jnp.ones((1, 1), bool))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, jnp.zeros(1), condition)["params"]

    def target(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        even = leaf.shape[-1] % mesh.size == 0
        spec = PartitionSpec(*[None] * (leaf.ndim - 1), "fsdp" if even else None)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    params = folder.load_transformer(module, jax.tree.map(target, nn.unbox(shapes)))
    assert not params["blocks"]["mlp_in"]["kernel"].is_fully_addressable
    assert not params["blocks"]["mlp_in"]["kernel"].is_fully_replicated
    export_pipeline(out, folder, module, params)
    assert (out / "model_index.json").exists()  # for every process


if __name__ == "__main__":
    rank, port = int(sys.argv[1]), int(sys.argv[2])
    with joined(rank, port):
        main(Path(sys.argv[3]), Path(sys.argv[4]))
