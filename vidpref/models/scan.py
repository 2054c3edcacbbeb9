"""Repeated blocks as one scanned, rematerialised block with stacked parameters."""

import flax.linen as nn
import jax

from vidpref.config.nearest import nearest
from vidpref.models.lora import COLLECTION


def scan_blocks(
    block: type[nn.Module], *, length: int, in_axes: tuple, remat: str, unroll: bool
) -> type[nn.Module]:
    """Returns `block` repeated `length` times: (carry, *inputs) -> (carry, stacked outputs).

    The parameters get a first axis "layers" of size `length`, which is never sharded; so do the
    adapters of `lora.py`, where there are any.

    Args:
        block: a module whose call returns (carry, output).
        length: number of repetitions.
        in_axes: for every input 0 (one slice a block) or `nn.broadcast`.
        remat: "none" keeps every activation, "full" only the carry of each block; else a name
            in `jax.checkpoint_policies`.
        unroll: write the repetitions out; compiles slower, may run faster.

    Raises:
        ValueError: unknown `remat`.
    """
    if remat != "none":
        # inside a scan common-subexpression elimination cannot undo the rematerialisation
        block = nn.remat(block, prevent_cse=False, policy=_policy(remat))
    return nn.scan(
        block,
        variable_axes={"params": 0, COLLECTION: 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=in_axes,
        length=length,
        unroll=length if unroll else 1,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def _policy(name: str):
    if name == "full":
        return None
    policy = getattr(jax.checkpoint_policies, name, None)
    if policy is None:
        known = ["none", "full", *(n for n in dir(jax.checkpoint_policies) if n[0] != "_")]
        raise ValueError(f"remat={name!r} is unknown; {nearest(name, known, cutoff=0.4)}")
    return policy
