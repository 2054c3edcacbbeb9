"""Adapters as the LoRA files of diffusers, which have the tensor names of PEFT; both ways."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from vidpref.interop.export import new_folder, on_host
from vidpref.interop.family import Family
from vidpref.interop.table import Rule, Table, to_params, to_tensors
from vidpref.models.lora import LoRA
from vidpref.typing import PyTree

FILE = "pytorch_lora_weights.safetensors"
_PREFIX = "transformer."
_METADATA = "lora_adapter_metadata"  # where diffusers keeps the fields of PEFT's LoraConfig
_FACTORS = {"a": "lora_A", "b": "lora_B"}

# fields of a LoraConfig under which the tensors mean something else
_PLAIN = {"use_rslora": False, "use_dora": False, "lora_bias": False, "alpha_pattern": {}}


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
    layers = {name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in tensors}
    config = {"r": spec.rank, "lora_alpha": spec.alpha, "target_modules": sorted(layers)}
    config = {_PREFIX + field: value for field, value in config.items()}
    metadata = {"format": "pt", _METADATA: json.dumps(config, indent=2, sort_keys=True)}
    with new_folder(out) as folder:
        if folder is not None:
            safetensors.numpy.save_file(tensors, folder / FILE, metadata)


def lora_tensors(adapters: PyTree, spec: LoRA, table: Table) -> dict[str, np.ndarray]:
    """Returns the tensors of a LoRA file.

    Args:
        adapters: adapters of `spec`, boxed or not.
        spec: rank and scale of the adapters.
        table: table of the transformer.

    Raises:
        ValueError: names adapters of layers that PyTorch does not have or has in another shape,
            and adapters of another rank.
    """
    flat = {path: on_host(x) for path, x in traverse_util.flatten_dict(nn.unbox(adapters)).items()}
    rules = _dense_rules(table)
    chosen, complaints = [], []
    for layer in sorted({"/".join(path[:-1]) for path in flat}):
        if layer not in rules:
            complaints.append(f"{layer} is no linear layer of the original")
            continue
        rule = rules[layer]
        chosen.append(rule)
        stacked = "{i}" in rule.torch
        for factor, axis in (("a", -1), ("b", -2)):
            shape = np.shape(flat.get((*layer.split("/"), factor)))
            if len(shape) != 2 + stacked:
                complaints.append(
                    f"{layer}/{factor} {shape} is no {'stack of matrices' if stacked else 'matrix'}"
                )
            elif shape[axis] != spec.rank:
                complaints.append(f"{layer}/{factor} {shape} is not of rank {spec.rank}")
    if complaints:
        raise ValueError(
            "these adapters have no form in PEFT: " + "; ".join(complaints) + ". Export the whole "
            "weights with the adapters merged, or train with other lora.targets."
        )
    tensors = to_tensors(traverse_util.unflatten_dict(flat), _adapter_table(chosen))
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def read_lora(
    path: str | os.PathLike, family: Family, module: nn.Module, base_shapes: PyTree
) -> tuple[PyTree, LoRA]:
    """Returns the float32 adapters of a LoRA file, and a spec that adapts the same layers.

    Args:
        path: a file that `save_lora_weights` of the diffusers pipeline or `export_lora` wrote, or
            its folder.
        family: family of the pipeline.
        module: its transformer.
        base_shapes: shapes of the transformer's parameters, boxed or not.

    Raises:
        ValueError: no such file, tensors that are unknown, missing or of another shape, adapters of
            several ranks, or a kind of LoRA that computes something else.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    tensors, config = _read_file(path)
    try:
        rank = _rank(tensors)
        adapters = _to_adapters(tensors, family.transformer_table(module), base_shapes, rank)
        alpha = _alpha(config, rank)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}\nvidpref reads plain LoRA of one rank, a layer in every block or in "
            f"none, as save_lora_weights of {next(iter(family.pipelines))} writes it. A file of "
            "another program: load it with load_lora_weights of that pipeline and save it again. "
            "Other adapters: merge them with fuse_lora, save the pipeline, and start from that."
        ) from error
    layers = sorted({"/".join(p[:-1]) for p in traverse_util.flatten_dict(adapters)})
    return adapters, LoRA(rank, alpha, tuple(f"^{re.escape(layer)}/kernel$" for layer in layers))


def _to_adapters(
    tensors: Mapping[str, np.ndarray], table: Table, base_shapes: PyTree, rank: int
) -> PyTree:
    general = {re.sub(r"\.\d+\.", ".{i}.", name, count=1) for name in tensors}
    names = general | tensors.keys()
    chosen = {
        layer: rule
        for layer, rule in _dense_rules(table).items()
        if any(_torch_name(rule, factor) in names for factor in _FACTORS)
    }
    kernels = traverse_util.flatten_dict(nn.unbox(base_shapes))
    expected = {}
    for layer in chosen:
        path = tuple(layer.split("/"))
        *stack, fan_in, fan_out = kernels[*path, "kernel"].shape
        for factor, shape in (("a", (*stack, fan_in, rank)), ("b", (*stack, rank, fan_out))):
            expected[*path, factor] = jax.ShapeDtypeStruct(shape, np.float32)
    params = to_params(
        tensors,
        _adapter_table(chosen.values()),
        expected=traverse_util.unflatten_dict(expected),
    )
    return jax.tree.map(lambda x: np.asarray(x, np.float32), params)


def _alpha(config: Mapping[str, Any], rank: int) -> float:
    """Without metadata the scale is 1, as in diffusers."""
    if config.get("r", rank) != rank:
        raise ValueError(f"the metadata says r={config['r']}, the tensors have rank {rank}")
    odd = {f: config[f] for f, plain in _PLAIN.items() if (config.get(f) or plain) != plain}
    if odd:
        raise ValueError(f"the metadata says {odd}, and only {_PLAIN} is implemented")
    return float(config.get("lora_alpha", rank))


def _read_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors, and the fields of the LoraConfig as far as there are any."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            config = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file of LoRA weights") from error
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    return tensors, {field.removeprefix(_PREFIX): value for field, value in config.items()}


def _dense_rules(table: Table) -> dict[str, Rule]:
    """The rules of linear kernels by the path of their layer."""
    ending = "/kernel"
    return {
        rule.ours.removesuffix(ending): rule
        for rule in table
        if rule.kind == "linear" and rule.ours.endswith(ending)
    }


def _torch_name(rule: Rule, factor: str) -> str:
    return f"{_PREFIX}{rule.torch.removesuffix('.weight')}.{_FACTORS[factor]}.weight"


def _adapter_table(rules: Iterable[Rule]) -> Table:
    """A [in, rank] and b [rank, out] are the kernels of two linear layers of PyTorch."""
    return tuple(
        Rule(_torch_name(rule, factor), rule.ours.removesuffix("kernel") + factor, "linear")
        for rule in rules
        for factor in _FACTORS
    )


def _rank(tensors: Mapping[str, np.ndarray]) -> int:
    first = {
        tensor.shape[0]: name
        for name, tensor in reversed(tensors.items())
        if name.endswith(f".{_FACTORS['a']}.weight") and tensor.ndim == 2
    }
    if not first:
        raise ValueError(f"no tensor is called *.{_FACTORS['a']}.weight, but e.g. {[*tensors][:3]}")
    if len(first) > 1:
        found = "; ".join(f"{rank}, e.g. {name}" for rank, name in sorted(first.items()))
        raise ValueError(f"all adapters must have one rank, these have {found}")
    return next(iter(first))
