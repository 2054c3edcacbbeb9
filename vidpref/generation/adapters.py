"""The LoRA of `config.model.lora`, which the pre-trained policy has: merged, or trained on."""

import dataclasses
import functools
from pathlib import Path

import jax
from ml_collections import ConfigDict

from vidpref.config.schema import counts_in
from vidpref.generation.generator import Generator
from vidpref.interop.lora.files import lora_files
from vidpref.interop.lora.reading import read_lora
from vidpref.interop.pipelines import FAMILIES
from vidpref.models.lora import LoRA
from vidpref.storage.copies import here
from vidpref.training.tuning import lora_spec
from vidpref.typing import PyTree


def policy_lora(config: ConfigDict, generator: Generator) -> tuple[PyTree, LoRA] | None:
    """Returns the adapters of the pre-trained policy, on the host; None where it has none.

    Args:
        config: the whole config.
        generator: the base generator.

    Raises:
        ValueError: see `read_lora`.
    """
    if not counts_in("model.lora", config) or not config.model.lora:
        return None
    try:
        files = lora_files(here(config.model.lora)).values()
        states = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        return _read(states, config.model.name, generator)
    except ValueError as error:
        raise ValueError(f"config.model.lora: {error}") from error


def goes_on(config: ConfigDict) -> bool:
    """Whether the alignment trains the adapters of the pre-trained policy, and no new ones."""
    return counts_in("align.lora.go_on", config) and config.align.lora.go_on


def trained_adapters(config: ConfigDict, generator: Generator) -> LoRA | None:
    """Returns the adapters that the alignment trains; None where it trains none.

    Args:
        config: the whole config.
        generator: the base generator.

    Raises:
        ValueError: a setting that cannot work, or see `read_lora`.
    """
    if not goes_on(config):
        return lora_spec(config.align)
    _, spec = policy_lora(config, generator)
    return dataclasses.replace(spec, dropout=float(config.align.lora.dropout))


@functools.lru_cache(maxsize=1)
def _read(
    states: tuple[tuple[Path, int, int], ...], family: str, generator: Generator
) -> tuple[PyTree, LoRA]:
    """Read anew when a file has another time of change or another size."""
    shapes = jax.eval_shape(generator.init, jax.random.key(0))
    (weights, _, _), *_ = states
    return read_lora(weights, FAMILIES[family], generator.module, shapes)
