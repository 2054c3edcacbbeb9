"""Repeated blocks as one scanned, rematerialised block with stacked parameters."""

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from vidpref.config.nearest import nearest
from vidpref.models.frozen import SCALES
from vidpref.models.lora import COLLECTION
from vidpref.typing import Array, PyTree

OFFLOAD = "offload"
_CARRY = "carry"


def scan_blocks(
    block: type[nn.Module], *, length: int, in_axes: tuple, remat: str, unroll: bool
) -> type[nn.Module]:
    """Returns `block` repeated `length` times: (carry, *inputs) -> (carry, stacked outputs).

    The parameters get a first axis "layers" of size `length`, which is never sharded; so do the
    adapters of `lora.py`, where there are any, and the scales of `frozen.py`.

    Args:
        block: a module whose call returns (carry, output).
        length: number of repetitions.
        in_axes: for every input 0 (one slice a block) or `nn.broadcast`.
        remat: "none" keeps every activation, "full" only the carry of each block, "offload" that
            too, in the host's memory; else a name in `jax.checkpoint_policies`.
        unroll: write the repetitions out; compiles slower, may run faster.

    Raises:
        ValueError: unknown `remat`.
    """
    if remat == OFFLOAD:
        block = _naming_its_carry(block)
    if remat != "none":
        # inside a scan common-subexpression elimination cannot undo the rematerialisation
        block = nn.remat(block, prevent_cse=False, policy=_policy(remat))
    return nn.scan(
        block,
        variable_axes={"params": 0, COLLECTION: 0, SCALES: 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=in_axes,
        length=length,
        unroll=length if unroll else 1,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def _naming_its_carry(block: type[nn.Module]) -> type[nn.Module]:
    """The block, which computes from its carry under a name that a policy can ask for."""

    class Named(block):
        def __call__(self, x: Array, *inputs: PyTree) -> tuple[Array, PyTree]:
            return super().__call__(checkpoint_name(x, _CARRY), *inputs)

    return Named


def _policy(name: str):
    if name == "full":
        return None
    if name == OFFLOAD:
        return jax.checkpoint_policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[_CARRY],
            offload_src="device",
            offload_dst="pinned_host",
        )
    policy = getattr(jax.checkpoint_policies, name, None)
    if policy is None:
        known = ["none", "full", OFFLOAD, *(n for n in dir(jax.checkpoint_policies) if n[0] != "_")]
        raise ValueError(f"remat={name!r} is unknown; {nearest(name, known, cutoff=0.4)}")
    return policy
