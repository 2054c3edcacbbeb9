"""Tables that say which tensor of a PyTorch checkpoint is which parameter, read both ways."""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from flax.core import meta

from vidpref.typing import PyTree

_BLOCK = "{i}"
_NAMED_AT_ONCE = 20  # tensors of one complaint in an error

# Number of dimensions of the PyTorch tensor; None for any, and -3 for three or more.
_KINDS = {"linear": 2, "conv": -3, "vector": 1, "embedding": 2, "kept": None}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One tensor, or one of every block of a stack, and the parameter that holds it.

    Attributes:
        torch: name in the state dict, with "{i}" where the number of a scanned block stands.
        ours: path of the Linen parameter, with "/"; the blocks are stacked on its first axis.
        kind: "linear" ([out, in] to a kernel [in, out]), "conv" ([out, in, *spatial] to
            [*spatial, in, out]), or, as they are, "vector", "embedding" and "kept" (any shape).
        tied: a second name of the same tensor, for weights that PyTorch shares: files hold either
            name or both. As in transformers `torch` counts where both are there; only `torch` is
            written.
    """

    torch: str
    ours: str
    kind: str
    tied: str = ""


Table = tuple[Rule, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """What one parameter is made of, known without reading a value.

    Attributes:
        path: keys of the parameter.
        names: the tensor, or one for each block, in order.
        stacked: whether the tensors are stacked on a new first axis.
        axes: axis j of (a block of) the parameter is axis `axes[j]` of the tensor.
        shape: shape of the parameter.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    stacked: bool
    axes: tuple[int, ...]
    shape: tuple[int, ...]


def to_params(
    tensors: Mapping[str, np.ndarray], table: Table, *, expected: PyTree | None = None
) -> PyTree:
    """Returns the parameters that a state dict holds, with the types of its tensors.

    Args:
        tensors: by name; each is used exactly once.
        table: table of the model.
        expected: the model's parameters or their shapes, boxed or not, to check against.

    Raises:
        ValueError: names every missing, extra or misshapen tensor, and every parameter of
            `expected` that the table lacks.
    """
    shapes = {name: np.shape(tensor) for name, tensor in tensors.items()}
    flat = {}
    for source in plan(shapes, table, expected=expected):
        parts = [np.asarray(tensors[name]).transpose(source.axes) for name in source.names]
        flat[source.path] = np.stack(parts) if source.stacked else parts[0]
    return traverse_util.unflatten_dict(flat)


def to_tensors(params: PyTree, table: Table) -> dict[str, np.ndarray]:
    """Returns the state dict of parameters, the inverse of `to_params` bit for bit.

    Args:
        params: boxed or not, on devices or on the host.
        table: table of the model.

    Raises:
        ValueError: a parameter without a rule, or a rule without its parameter.
    """
    flat = _flatten(params)
    _raise(_parameter_complaints(table, flat), "these parameters are not those of the table")
    return {name: part for rule in table for name, part in _tensors_of(rule, flat)}


def tensor_shapes(params: PyTree, table: Table) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors that `to_tensors` makes, without their values.

    Args:
        params: boxed or not, or their shapes.
        table: table of the model.

    Raises:
        ValueError: see `to_tensors`.
    """
    flat = _flatten(params)
    _raise(_parameter_complaints(table, flat), "these parameters are not those of the table")
    return {
        rule.torch.replace(_BLOCK, str(i)): _torch_shape(rule, flat)
        for rule in table
        for i in range(flat[tuple(rule.ours.split("/"))].shape[0] if _BLOCK in rule.torch else 1)
    }


def plan(
    shapes: Mapping[str, Sequence[int]], table: Table, *, expected: PyTree | None = None
) -> list[Source]:
    """Returns what every parameter is made of, in the order of the table.

    Args:
        shapes: shapes of the tensors, by name.
        table: table of the model.
        expected: as in `to_params`.

    Raises:
        ValueError: as `to_params`.
    """
    wanted = None if expected is None else _flatten(expected)
    complaints = _table_complaints(table)
    if wanted is not None:
        complaints += _parameter_complaints(table, wanted)
    _raise(complaints, "the table does not fit the model")
    depths = _depths(shapes, table, wanted)
    tied = {rule.tied for rule in table} - {rule.torch for rule in table}
    sources, misshapen = [], []
    used: collections.Counter[str] = collections.Counter()
    for rule in table:
        names = _names(rule, shapes, depths)
        used.update(names)
        found = {name: tuple(shapes[name]) for name in names if name in shapes}
        if not found:
            continue
        right = next(iter(found.values())) if wanted is None else _torch_shape(rule, wanted)
        wrong = [f"{n} {shape}, wanted {right}" for n, shape in found.items() if shape != right]
        if not wrong and not _fits(rule.kind, len(right)):
            wrong = [f"{names[0]} {right}: no {rule.kind} weight has {len(right)} dimensions"]
        misshapen += wrong
        if not wrong:
            axes = _axes(rule.kind, len(right))
            stacked = _BLOCK in rule.torch
            shape = (*([len(names)] if stacked else []), *(right[axis] for axis in axes))
            path = tuple(rule.ours.split("/"))
            sources.append(Source(path, tuple(names), stacked, axes, shape))
    complaints = [
        *_listed("missing", [name for name in used if name not in shapes]),
        *_listed("extra", [name for name in shapes if name not in used and name not in tied]),
        *_listed("misshapen", misshapen),
        *_listed("claimed by several rules", [name for name, n in used.items() if n > 1]),
    ]
    _raise(complaints, "these tensors are not those of the model")
    return sources


def _names(rule: Rule, shapes: Mapping[str, Any], depths: Mapping[str, int]) -> list[str]:
    if _BLOCK in rule.torch:
        return [rule.torch.replace(_BLOCK, str(i)) for i in range(depths[_stack(rule)])]
    return [rule.tied if rule.torch not in shapes and rule.tied in shapes else rule.torch]


def _torch_shape(rule: Rule, wanted: Mapping[tuple, Any]) -> tuple[int, ...]:
    """The shape of the tensor that gives the parameter of the model."""
    shape = tuple(wanted[tuple(rule.ours.split("/"))].shape)
    shape = shape[1:] if _BLOCK in rule.torch else shape
    if not _fits(rule.kind, len(shape)):
        raise ValueError(f"the parameter {rule.ours} {shape} cannot be a {rule.kind} weight")
    return tuple(shape[j] for j in np.argsort(_axes(rule.kind, len(shape))))


def _tensors_of(rule: Rule, flat: Mapping[tuple, Any]) -> Iterator[tuple[str, np.ndarray]]:
    values = np.asarray(flat[tuple(rule.ours.split("/"))])
    blocks = values if _BLOCK in rule.torch else [values]
    for i, block in enumerate(blocks):
        back = np.argsort(_axes(rule.kind, np.ndim(block)))
        yield rule.torch.replace(_BLOCK, str(i)), np.asarray(block).transpose(back)


def _axes(kind: str, ndim: int) -> tuple[int, ...]:
    kept = tuple(range(ndim))
    return (*kept[2:], 1, 0) if kind in ("linear", "conv") else kept


def _fits(kind: str, ndim: int) -> bool:
    wanted = _KINDS[kind]
    return wanted is None or (ndim >= -wanted if wanted < 0 else ndim == wanted)


def _stack(rule: Rule) -> str:
    return rule.torch.partition(_BLOCK)[0]


def _depths(
    shapes: Mapping[str, Sequence[int]], table: Table, wanted: Mapping[tuple, Any] | None
) -> dict[str, int]:
    """The number of blocks of each stack: what the model has, else what the tensors have."""
    depths: dict[str, int] = {}
    for rule in table:
        if _BLOCK not in rule.torch:
            continue
        if wanted is None:
            before, after = (re.escape(part) for part in rule.torch.split(_BLOCK))
            pattern = re.compile(rf"{before}(\d+){after}")
            matches = [pattern.fullmatch(name) for name in shapes]
            depth = max((int(m[1]) + 1 for m in matches if m), default=1)
        else:
            depth = wanted[tuple(rule.ours.split("/"))].shape[0]
        depths[_stack(rule)] = max(depth, depths.get(_stack(rule), 1))
    return depths


def _table_complaints(table: Table) -> list[str]:
    counts = collections.Counter(rule.ours for rule in table)
    kinds = [f"{rule.torch}: {rule.kind!r}" for rule in table if rule.kind not in _KINDS]
    blocks = [rule.torch for rule in table if rule.torch.count(_BLOCK) > 1]
    return (
        _listed("made by several rules", [ours for ours, count in counts.items() if count > 1])
        + _listed(f"of no kind among {', '.join(_KINDS)}", kinds)
        + _listed('more than one "{i}"', blocks)
    )


def _parameter_complaints(table: Table, params: Mapping[tuple, Any]) -> list[str]:
    ruled = {rule.ours for rule in table}
    there = {"/".join(path) for path in params}
    return _listed("without a rule", sorted(there - ruled)) + _listed(
        "with a rule but not in the model", sorted(ruled - there)
    )


def _flatten(params: PyTree) -> dict[tuple[str, ...], Any]:
    leaves = jax.tree_util.tree_leaves_with_path(meta.unbox(params))
    return {tuple(str(key.key) for key in path): leaf for path, leaf in leaves}


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = len(names) - _NAMED_AT_ONCE
    rest = [f"and {more} more"] if more > 0 else []
    return [f"{what} ({len(names)}): " + "; ".join([*names[:_NAMED_AT_ONCE], *rest])]


def _raise(complaints: Sequence[str], what: str) -> None:
    if complaints:
        raise ValueError("\n  ".join([f"{what}:", *complaints]))
