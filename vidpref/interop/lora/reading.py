"""LoRA files as our adapters: read as diffusers and PEFT read them."""

import collections
import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from absl import logging
from flax import traverse_util

from vidpref.interop.family import Family
from vidpref.interop.lora import files, names
from vidpref.interop.lora.scales import scales
from vidpref.interop.table import Rule, Table
from vidpref.models.lora import LoRA
from vidpref.typing import PyTree

_NAMED_AT_ONCE = 20  # complaints of one error


def read_lora(
    path: str | os.PathLike,
    family: Family,
    module: nn.Module,
    base_shapes: PyTree,
    scale: float | int = 1.0,
) -> tuple[PyTree, LoRA]:
    """Returns the float32 adapters of a LoRA file, and a spec that adapts the same layers.

    Names may be those of diffusers, PEFT, the authors of Wan, or kohya and musubi. Ranks and
    strengths may differ from layer to layer, and layers may be adapted in some blocks only: the
    adapters have the largest rank, and zeros where the file has nothing. Merged, they are the bits
    that diffusers makes of the file, but for strengths that differ and are no powers of two, which
    are multiplied into a factor before the product.

    Args:
        path: a file, or a folder with one; see `lora_file`.
        family: family of the pipeline.
        module: its transformer.
        base_shapes: shapes of the transformer's parameters, boxed or not.
        scale: by what all adapters are multiplied.

    Raises:
        ValueError: no such file; tensors that are unknown, missing or of another shape; a kind of
            adapter that computes something else; or a scale that is no finite number. It names
            them.
    """
    adaptable = Adaptable(
        family.transformer_table(module),
        family.original,
        passes_over=True,
        reads=f"LoRA of the linear layers of a {family.name} transformer. Merge other adapters in "
        "the program that made them, save the whole pipeline as "
        f"{next(iter(family.pipelines))} has it, and give that as --model.",
    )
    return read_adapters(path, adaptable, base_shapes, scale)


@dataclasses.dataclass(frozen=True)
class Adaptable:
    """A network whose layers a LoRA may adapt.

    Attributes:
        table: its table.
        original: other names that files have of its layers -> those in the table; "{i}" stands for
            the number of a block.
        passes_over: whether whole differences of weights are passed over with a warning, as in
            diffusers; they are errors otherwise.
        reads: what is read, and what to do with anything else, for errors.
    """

    table: Table
    original: Mapping[str, str]
    passes_over: bool
    reads: str


def read_adapters(
    path: str | os.PathLike, adaptable: Adaptable, base_shapes: PyTree, scale: float | int = 1.0
) -> tuple[PyTree, LoRA]:
    """Returns the float32 adapters of a LoRA file, as `read_lora` does.

    Args:
        path: a file, or a folder with one; see `lora_file`.
        adaptable: the network.
        base_shapes: shapes of its parameters, boxed or not.
        scale: by what all adapters are multiplied.

    Raises:
        ValueError: see `read_lora`.
    """
    if not math.isfinite(scale):
        raise ValueError(f"a LoRA cannot count {scale:g} times: give a finite number, such as 1")
    file = files.lora_file(Path(path))
    tensors, config = files.read_tensors(file)
    kernels = traverse_util.flatten_dict(nn.unbox(base_shapes))
    try:
        layers = _layers(tensors, adaptable, kernels)
        spelt = {layer: adapter.spelt for layer, adapter in layers.items()}
        strengths = scales(config, {n: adapter.rank for n, adapter in layers.items()}, spelt)
    except ValueError as error:
        raise ValueError(f"{file}: {error}\nvidpref reads {adaptable.reads}") from error
    return _stacked(layers, {n: scale * s for n, s in strengths.items()}, kernels)


@dataclasses.dataclass
class _Adapter:
    """The adapter of one layer: a [rank, in] and b [out, rank] of PyTorch, bias [out] or None.

    Attributes:
        rule: where the layer is in our parameters.
        block: number of its block; None outside the blocks.
        spelt: its name in the file.
    """

    rule: Rule
    block: int | None
    spelt: str
    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray | None

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def path(self) -> tuple[str, ...]:
        """Of our layer."""
        return tuple(self.rule.ours.split("/"))[:-1]


def _layers(
    tensors: Mapping[str, np.ndarray], adaptable: Adaptable, kernels: Mapping[tuple, Any]
) -> dict[str, _Adapter]:
    """The adapters of a file by the layers' names in the table."""
    weights = (r for r in adaptable.table if r.torch.endswith(".weight"))
    rules = {r.torch.removesuffix(".weight"): r for r in weights}
    depths = {
        name: kernels[tuple(rule.ours.split("/"))].shape[0] if "{i}" in name else 1
        for name, rule in rules.items()
    }
    known = names.layers_of(depths, adaptable.original)
    sorted_, complaints = names.sort_tensors(tensors, known)
    passed_over, adapters = [], {}
    for layer, parts in sorted_.items():
        general = re.sub(r"\.\d+\.", ".{i}.", layer, count=1)
        block = None if layer in rules else int(re.search(r"\.(\d+)\.", layer)[1])
        rule = rules[layer if block is None else general]
        passed_over += _pass_over(layer, parts)
        if not parts:
            continue
        if rule.kind != "linear":
            what = "convolution" if rule.kind == "conv" else "norm"
            complaints.append(f"{layer} is a {what}: {', '.join(sorted(parts.values()))}")
            continue
        kernel = kernels[tuple(rule.ours.split("/"))].shape[-2:]
        values = {part: tensors[name] for part, name in parts.items()}
        if wild := [parts[part] for part, x in values.items() if not np.isfinite(x).all()]:
            complaints.append(f"{layer}: {wild[0]} has values that are not finite")
            continue
        try:
            a, b, bias = _factors(values, kernel)
        except ValueError as error:
            complaints.append(f"{layer}: {error}")
            continue
        adapter = _Adapter(rule, block, _spelling(next(iter(parts.values()))), a, b, bias)
        if bias is not None and (*adapter.path, "bias") not in kernels:
            adapter.bias = None
            if np.any(bias):
                complaints.append(f"{layer} has no bias that {parts[names.BIAS]} could be added to")
        adapters[layer] = adapter
    if passed_over and not adaptable.passes_over:
        complaints.append(f"whole differences of weights: {', '.join(passed_over[:3])}")
    if complaints:
        more = len(complaints) - _NAMED_AT_ONCE
        rest = [f"and {more} more"] if more > 0 else []
        raise ValueError("\n  ".join(["it holds", *complaints[:_NAMED_AT_ONCE], *rest]))
    if not adapters:
        raise ValueError(f"it holds no adapter; its tensors are e.g. {', '.join([*tensors][:3])}")
    _say_what_is_passed_over([n for n in passed_over if np.any(tensors[n])])
    return adapters


def _pass_over(layer: str, parts: dict[str, str]) -> list[str]:
    """Takes whole differences from `parts`, as diffusers does; returns those that do not count.

    The bias of a layer counts beside its adapter, and alone in attention, the MLPs and the head.
    The weight of the head counts as an adapter of full rank. All others are passed over, norms
    first of all.
    """
    dropped = []
    if "norm" in layer:
        dropped = [names.DIFFERENCE, names.BIAS_DIFFERENCE]
    elif layer != "proj_out":
        dropped = [names.DIFFERENCE]
        if names.A not in parts and not re.search(r"\.(attn\d|ffn)\.", layer):
            dropped.append(names.BIAS_DIFFERENCE)
    found = [parts.pop(part) for part in dropped if part in parts]
    if names.BIAS_DIFFERENCE in parts:
        parts[names.BIAS] = parts.pop(names.BIAS_DIFFERENCE)
    return found


def _say_what_is_passed_over(passed_over: list[str]) -> None:
    if passed_over:
        logging.warning(
            "%d tensors are whole differences that count no more here than in diffusers, which "
            "passes over them: %s",
            len(passed_over),
            ", ".join(passed_over[:5]) + (", ..." if len(passed_over) > 5 else ""),
        )


def _factors(
    values: Mapping[str, np.ndarray], kernel: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A layer's factors with its own alpha in them, and its bias."""
    fan_in, fan_out = kernel
    values = dict(values)
    if names.DIFFERENCE in values:
        if beside := sorted(values.keys() - {names.DIFFERENCE, names.BIAS}):
            raise ValueError(f"it has a whole difference and parts of an adapter: {beside}")
        values[names.A] = values.pop(names.DIFFERENCE)
        values[names.B] = np.eye(fan_out, dtype=values[names.A].dtype)
    bias = values.get(names.BIAS)
    if bias is not None and bias.shape != (fan_out,):
        raise ValueError(f"its bias is {bias.shape}, wanted ({fan_out},)")
    if set(values) == {names.BIAS}:
        none = np.zeros((1, fan_in), np.float32), np.zeros((fan_out, 1), np.float32)
        return *none, np.asarray(bias, np.float32)
    missing = [factor for factor in (names.A, names.B) if factor not in values]
    if missing:
        there = {names.A: "lora_A (down)", names.B: "lora_B (up)"}
        raise ValueError(f"its {' and '.join(there[m] for m in missing)} is missing")
    a, b = values[names.A], values[names.B]
    rank = a.shape[0] if a.ndim else 0
    if not rank or a.shape != (rank, fan_in) or b.shape != (fan_out, rank):
        raise ValueError(
            f"its factors are {a.shape} and {b.shape}, wanted (rank, {fan_in}) and ({fan_out}, "
            "rank)"
        )
    if names.ALPHA in values:
        if values[names.ALPHA].size != 1:
            raise ValueError(f"its alpha is {values[names.ALPHA].shape}, wanted one number")
        a, b = _with_alpha(a, b, float(values[names.ALPHA].reshape(())))
    a, b, bias = (None if x is None else np.asarray(x, np.float32) for x in (a, b, bias))
    if not all(np.isfinite(x).all() for x in (a, b, bias) if x is not None):
        raise ValueError("its values are beyond its type when alpha is multiplied into them")
    return a, b, bias


def _with_alpha(a: np.ndarray, b: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The factors times alpha / rank, rounded to their type as diffusers does.

    Powers of two go to the other factor until both are as large: a small type may lose none.
    """
    down, up = alpha / a.shape[0], 1.0
    while 0 < down * 2 < up:
        down, up = down * 2, up / 2
    return _times(a, down), _times(b, up)


def _times(x: np.ndarray, factor: float) -> np.ndarray:
    wide = x if x.dtype == np.float64 else np.asarray(x, np.float32)
    with np.errstate(over="ignore"):  # `_factors` refuses what is not finite
        return (wide * factor).astype(x.dtype)


def _stacked(
    layers: Mapping[str, _Adapter], strengths: Mapping[str, float], kernels: Mapping[tuple, Any]
) -> tuple[PyTree, LoRA]:
    """Our adapters, with one scale for all where the strengths differ by their sign alone."""
    rank = max(adapter.rank for adapter in layers.values())
    sizes = {abs(strength) for strength in strengths.values()}
    common = sizes.pop() if len(sizes) == 1 else 1.0
    common = common or 1.0  # strengths of zero go into a factor too
    by_path = collections.defaultdict(list)
    for layer, adapter in layers.items():
        by_path[adapter.path].append((adapter, strengths[layer] / common))
    flat = {}
    for path, adapters in by_path.items():
        *stack, fan_in, fan_out = kernels[*path, "kernel"].shape
        a = flat[*path, "a"] = np.zeros((*stack, fan_in, rank), np.float32)
        b = flat[*path, "b"] = np.zeros((*stack, rank, fan_out), np.float32)
        biased = any(adapter.bias is not None for adapter, _ in adapters)
        bias = np.zeros((*stack, fan_out), np.float32)
        if biased:
            flat[*path, "bias"] = bias
        for adapter, strength in adapters:
            at = () if adapter.block is None else (adapter.block,)
            a[*at, :, : adapter.rank] = _times(adapter.a, strength).T
            b[*at, : adapter.rank] = adapter.b.T
            if adapter.bias is not None:
                bias[at] = _times(adapter.bias, strength)
    targets, biased = (
        tuple(f"^{re.escape('/'.join(path))}/kernel$" for path in sorted(paths))
        for paths in (by_path, [path[:-1] for path in flat if path[-1] == "bias"])
    )
    spec = LoRA(rank, common * rank, targets, biased=biased, padded=True)
    return traverse_util.unflatten_dict(flat), spec


def _spelling(name: str) -> str:
    """The layer that a tensor's name begins with, as the file has it."""
    return re.split(r"\.(?:lora_|alpha$|diff)", name, maxsplit=1)[0]
