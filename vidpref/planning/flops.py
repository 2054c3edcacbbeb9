"""Floating-point operations of a traced program, by the module that does them.

Counted are matrix products and convolutions, as papers count: a multiplication and an addition are
two. What is done once a number (norms, activations, softmax) is some percent of it and left out.
The trace is that of the real program, so gradients are counted as they are computed, and what is
computed again for them is known by its name.
"""

import dataclasses
import math
import re
from collections import Counter
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

_AGAIN = "rematted_computation"  # jax's name for what a checkpoint computes again
_WRAPPED = re.compile(r"^\w+\((.*)\)$")  # a scope seen through a transformation: jvp(Wan)
_NOT_MODULES = re.compile(r"^(while|body|cond|checkpoint|remat|closed_call|branch_\d+_fun|scan)$")

# jax's names for attention by cuDNN, and its products of the size of the attention's weights: those
# that a gradient needs, and those that the kernel computes again.
_CUDNN = {
    "dot_product_attention_fwd_wrapper": (2, 0),
    "dot_product_attention_bwd_wrapper": (4, 1),
}

# Where a shard_map names the axes that its shapes are divided over, by the version of jax.
_BY_HAND = ("newly_manual_axes", "manual_axes")


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations of one call of a program, over all devices.

    Attributes:
        total: all of them.
        rematerialized: of those, what is computed a second time to save memory.
        modules: of all, {path of the module: operations}; "" for what lies in none.
    """

    total: float
    rematerialized: float
    modules: dict[str, float]

    def by_module(self, depth: int = 2, most: int = 8) -> list[tuple[str, float]]:
        """Returns the `most` expensive modules and their operations, the dearest first.

        Args:
            depth: parts of the path that are told apart.
            most: length of the list; the rest is its last entry, "others".
        """
        merged: Counter[str] = Counter()
        for path, flops in self.modules.items():
            merged["/".join(path.split("/")[:depth]) or "(no module)"] += flops
        first, rest = merged.most_common()[:most], merged.most_common()[most:]
        return [*first, ("others", sum(flops for _, flops in rest))] if rest else first


def count_flops(traced: jax.stages.Traced) -> Flops:
    """Returns the operations of a traced program.

    A loop whose number of turns only the device knows counts as one turn, and of branches counts
    the dearest.
    """
    found: Counter[tuple[str, bool]] = Counter()
    _walk(traced.jaxpr.jaxpr, 1.0, (), found)
    modules: Counter[str] = Counter()
    for (path, _), flops in found.items():
        modules[path] += flops
    again = sum(flops for (_, second), flops in found.items() if second)
    return Flops(float(sum(found.values())), float(again), dict(modules))


def _walk(jaxpr: Jaxpr, times: float, scopes: tuple[str, ...], found: Counter) -> None:
    for eqn in jaxpr.eqns:
        inner = (*scopes, *str(eqn.source_info.name_stack).split("/"))
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            found[_place(inner)] += times * _dot(eqn)
        elif name == "conv_general_dilated":
            found[_place(inner)] += times * _convolution(eqn)
        elif name in _CUDNN:
            path, again = _place(inner)
            needed, second = (times * n * _attention(eqn) for n in _CUDNN[name])
            found[path, again] += needed
            found[path, True] += second
        elif name == "cond":
            found.update(_dearest(params["branches"], times, inner))
        elif name == "pallas_call":
            found[_place(inner)] += times * _kernel(eqn)
        else:
            turns = times
            if name == "scan":
                turns = times * params["length"]
            elif name == "shard_map":  # its shapes are those of one device
                axes = next(params[key] for key in _BY_HAND if key in params)
                turns = times * math.prod(params["mesh"].shape[axis] for axis in axes)
            for sub in _inside(params):
                _walk(sub, turns, inner, found)


def _inside(params: dict[str, Any]) -> list[Jaxpr]:
    """The programs in an equation's parameters; rules for derivatives are functions, not these."""
    values = [v for value in params.values() for v in _flat(value)]
    return [v.jaxpr if isinstance(v, ClosedJaxpr) else v for v in values if _is_jaxpr(v)]


def _flat(value: Any) -> tuple | list:
    return value if isinstance(value, tuple | list) else (value,)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def _dearest(branches: Any, times: float, scopes: tuple[str, ...]) -> Counter:
    counts = []
    for branch in branches:
        count: Counter = Counter()
        _walk(branch.jaxpr, times, scopes, count)
        counts.append(count)
    return max(counts, key=lambda count: sum(count.values()))


def _dot(eqn: Any) -> float:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)


def _convolution(eqn: Any) -> float:
    """Products with zeros that only stretch an input (the gradient of strides) are not counted."""
    kernel = eqn.invars[1].aval.shape
    spec = eqn.params["dimension_numbers"].rhs_spec  # (out, in, *spatial)
    positions = math.prod(kernel[i] for i in spec[2:])
    stretched = math.prod(eqn.params["lhs_dilation"])
    batch = eqn.params["batch_group_count"]
    size = math.prod(eqn.outvars[0].aval.shape) * kernel[spec[1]] * positions
    return 2.0 * size / stretched / batch


def _attention(eqn: Any) -> float:
    """A product of queries and keys [b, l, n, d], or [b, n, l, d] where the layout says so."""
    q, k = (x.aval.shape for x in eqn.invars[:2])
    return 2.0 * math.prod(q) * k[2 if eqn.params["layout"] else 1]


def _kernel(eqn: Any) -> float:
    """A hand-written kernel: what it says of itself, or else its body on every cell of its grid."""
    cost = eqn.params.get("cost_estimate")
    if cost is not None:
        return float(cost.flops)
    grid = [size for size in eqn.params["grid_mapping"].grid if isinstance(size, int)]
    found: Counter = Counter()
    _walk(eqn.params["jaxpr"], float(math.prod(grid)), (), found)
    return float(sum(found.values()))


def _place(scopes: tuple[str, ...]) -> tuple[str, bool]:
    """(path of the module, whether it is computed again)."""
    names = []
    for scope in scopes:
        while match := _WRAPPED.match(scope):
            scope = match[1]
        names += scope.split("/")
    again = _AGAIN in names
    parts = [n for n in names if n and n != _AGAIN and not _NOT_MODULES.match(n)]
    path = [part for i, part in enumerate(parts) if i == 0 or part != parts[i - 1]]
    return "/".join(path), again
