"""Weights that every device holds whole, for a program that reads them many times over.

Parameters are stored in parts over `fsdp` and `context`, and every layer gathers its own each time
that it is called. An answer calls all layers once a token: weights that are gathered before its
first token pass over the network once, and not as often as there are tokens.
"""

from collections.abc import Callable

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidpref.models.frozen import Keeping
from vidpref.models.lora import Adapted
from vidpref.training.sharding import param_shardings, replicated
from vidpref.typing import Array, PyTree

_KEPT = "tensor"  # the axis that divides the arithmetic of a layer too


def gathering(network: Callable[[Array], PyTree], mesh: Mesh) -> Callable[[PyTree], PyTree]:
    """Returns what makes of a policy, inside of a compiled program, one of whole parameters.

    They are whole but for their parts over `tensor`. They are cast to the type that their layers
    compute in before they are gathered, which changes no number and halves what is sent and held.
    A policy is what `apply_network` takes.

    Args:
        network: key -> parameters of the whole network, boxed with their logical names.
        mesh: of the program.
    """
    places = jax.tree.map(_whole, param_shardings(jax.eval_shape(network, jax.random.key(0)), mesh))
    keeping, everywhere = Keeping(network, "compute"), replicated(mesh)

    def gather(policy: PyTree) -> PyTree:
        if not isinstance(policy, Adapted):
            put = jax.lax.with_sharding_constraint
            return jax.tree.map(put, keeping.all(policy), places)
        adapters = jax.lax.with_sharding_constraint(policy.adapters, everywhere)
        return policy.replace(base=gather(policy.base), adapters=adapters)

    return gather


def _whole(place: NamedSharding) -> NamedSharding:
    kept = [_KEPT if _KEPT in _axes(axes) else None for axes in place.spec]
    return NamedSharding(place.mesh, PartitionSpec(*kept))


def _axes(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if axes is None:
        return ()
    return (axes,) if isinstance(axes, str) else axes
