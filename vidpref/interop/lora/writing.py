"""Adapters as the LoRA files of diffusers, which have the tensor names of PEFT."""

import collections
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import safetensors.numpy
from flax import traverse_util

from vidpref.files import whole_file
from vidpref.interop.export import new_folder, on_host
from vidpref.interop.family import Family
from vidpref.interop.lora.files import FILE, METADATA, PREFIX
from vidpref.interop.table import Rule, Table, to_tensors
from vidpref.models.lora import LoRA
from vidpref.typing import PyTree

_PARTS = {"a": "lora_A.weight", "b": "lora_B.weight", "bias": "lora_B.bias"}
_A, _B, _BIAS = _PARTS.values()


def export_lora(out: Path, family: Family, module: nn.Module, adapters: PyTree, spec: LoRA) -> None:
    """Writes adapters to a folder that `pipe.load_lora_weights` of diffusers loads.

    Rank and alpha go along in the file's metadata, which diffusers reads since 0.34. There is no
    tensor for alpha: loaders of this format refuse one. Every process must call this, and the
    first one writes.

    Args:
        out: the new folder; an empty one is replaced.
        family: family of the pipeline.
        module: its transformer.
        adapters: adapters of `spec`, boxed or not.
        spec: rank and alpha; dropout is for training, and is not written.

    Raises:
        ValueError: `out` holds something, or as `lora_tensors`.
    """
    tensors = lora_tensors(adapters, spec, family.transformer_table(module))
    config = {PREFIX + field: value for field, value in lora_config(tensors, spec).items()}
    metadata = {"format": "pt", METADATA: json.dumps(config, indent=2, sort_keys=True)}
    with new_folder(out) as folder:
        if folder is not None:
            # the library's own writer makes files that only their owner may read
            with whole_file(folder / FILE) as file:
                file.write_bytes(safetensors.numpy.save(tensors, metadata))


def lora_tensors(
    adapters: PyTree, spec: LoRA, table: Table, *, prefix: str = PREFIX
) -> dict[str, np.ndarray]:
    """Returns the tensors of a LoRA file.

    Ranks of which both factors are zero are left out, and so are layers that have no other: they
    hold the place of ranks that differ, and of blocks without an adapter.

    Args:
        adapters: adapters of `spec`, boxed or not.
        spec: rank and scale of the adapters.
        table: table of the network.
        prefix: what stands before the names of the table.

    Raises:
        ValueError: names adapters of layers that PyTorch does not have or has in another shape,
            and adapters of another rank.
    """
    flat = {path: on_host(x) for path, x in traverse_util.flatten_dict(nn.unbox(adapters)).items()}
    rules = {
        rule.ours.removesuffix("/kernel"): rule
        for rule in table
        if rule.kind == "linear" and rule.ours.endswith("/kernel")
    }
    chosen, complaints = [], []
    for layer in sorted({"/".join(path[:-1]) for path in flat}):
        if layer not in rules:
            complaints.append(f"{layer} is no linear layer of the original")
            continue
        rule = rules[layer]
        stacked = "{i}" in rule.torch
        for factor, axis in (("a", -1), ("b", -2)):
            shape = np.shape(flat.get((*layer.split("/"), factor)))
            if len(shape) != 2 + stacked:
                complaints.append(
                    f"{layer}/{factor} {shape} is no {'stack of matrices' if stacked else 'matrix'}"
                )
            elif shape[axis] != spec.rank:
                complaints.append(f"{layer}/{factor} {shape} is not of rank {spec.rank}")
        chosen += _rules(
            prefix, rule, [part for part in _PARTS if (*layer.split("/"), part) in flat]
        )
    if complaints:
        raise ValueError(
            "these adapters have no form in PEFT: " + "; ".join(complaints) + ". Export the whole "
            "weights with the adapters merged, or train with other lora.targets."
        )
    tensors = _trimmed(to_tensors(traverse_util.unflatten_dict(flat), tuple(chosen)))
    if any(name.endswith(_BIAS) for name in tensors):  # PEFT wants one in every layer then
        for name in [name for name in tensors if name.endswith(_B)]:
            zeros = np.zeros(len(tensors[name]), np.float32)
            tensors.setdefault(name.removesuffix(_B) + _BIAS, zeros)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def stack(parts: Sequence[tuple[PyTree, LoRA]]) -> tuple[PyTree, LoRA]:
    """Returns one set of adapters that does what several do after one another: ranks side by side.

    Every process must call this.

    Args:
        parts: adapters, boxed or not, and the spec of each. Scales that differ are multiplied into
            the first factor.
    """
    specs = [spec for _, spec in parts]
    rank = sum(spec.rank for spec in specs)
    scales = {spec.scale for spec in specs}
    scale = scales.pop() if len(scales) == 1 else 1.0
    found: dict[tuple[str, ...], np.ndarray] = {}
    start = 0
    for adapters, spec in parts:
        own = slice(start, start := start + spec.rank)
        times = spec.scale / scale
        for path, leaf in traverse_util.flatten_dict(nn.unbox(adapters)).items():
            values = np.asarray(on_host(leaf), np.float32)
            if path[-1] != "b" and times != 1:
                values = times * values
            if path[-1] == "bias":
                found[path] = found[path] + values if path in found else values
                continue
            index = (..., own) if path[-1] == "a" else (..., own, slice(None))
            shape = list(values.shape)
            shape[-1 if path[-1] == "a" else -2] = rank
            found.setdefault(path, np.zeros(shape, np.float32))[index] = values
    targets = tuple(dict.fromkeys(target for spec in specs for target in spec.targets))
    return traverse_util.unflatten_dict(found), LoRA(rank, scale * rank, targets)


def _rules(prefix: str, rule: Rule, parts: Iterable[str]) -> list[Rule]:
    """A [in, rank] and b [rank, out] are the kernels of two linear layers of PyTorch."""
    torch = prefix + rule.torch.removesuffix("weight")
    ours = rule.ours.removesuffix("kernel")
    kinds = {"a": "linear", "b": "linear", "bias": "vector"}
    return [Rule(torch + _PARTS[part], ours + part, kinds[part]) for part in parts]


def _trimmed(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors without what is zero in both factors; a bias keeps one rank."""
    kept = dict(tensors)
    for name in tensors:
        if not name.endswith(_A):
            continue
        layer = name.removesuffix(_A)
        a, b = tensors[name], tensors[layer + _B]
        used = a.any(axis=1) | b.any(axis=0)
        if used.all():
            continue
        if not used.any() and not np.any(tensors.get(layer + _BIAS, 0)):
            for part in _PARTS.values():
                kept.pop(layer + part, None)
            continue
        used[0] |= not used.any()
        kept[name], kept[layer + _B] = a[used], b[:, used]
    return kept


def lora_config(
    tensors: Mapping[str, np.ndarray], spec: LoRA, *, prefix: str = PREFIX
) -> dict[str, Any]:
    """Returns the fields of PEFT's LoraConfig; layers of another rank than most have patterns.

    Args:
        tensors: result of `lora_tensors`.
        spec: rank and alpha of the adapters.
        prefix: as there.

    Raises:
        ValueError: no tensors.
    """
    start, end = len(prefix), -len(_A) - 1
    ranks = {name[start:end]: len(a) for name, a in tensors.items() if name.endswith(_A)}
    if not ranks:
        raise ValueError("these adapters are zero: there is nothing to export")
    (rank, _), *_ = collections.Counter(ranks.values()).most_common(1)

    def alpha(rank: int) -> float:
        return spec.alpha if rank == spec.rank else spec.scale * rank

    config = {"r": rank, "lora_alpha": alpha(rank), "target_modules": sorted(ranks)}
    if others := {f"^{layer}": own for layer, own in sorted(ranks.items()) if own != rank}:
        config["rank_pattern"] = others
        config["alpha_pattern"] = {layer: alpha(own) for layer, own in others.items()}
    if any(name.endswith(_BIAS) for name in tensors):
        config["lora_bias"] = True
    return config
