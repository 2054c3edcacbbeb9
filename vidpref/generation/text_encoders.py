"""The text encoders by name; T5 and UMT5 with the weights of a folder, on the devices of a run."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

import ftfy
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.fields import check_section
from vidpref.config.schema import Text
from vidpref.datasets.text import TextEncoder, WordTable
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.pipelines import digest
from vidpref.interop.safetensors_files import weights_fault
from vidpref.interop.t5 import NOT_OF_THE_ENCODER, t5_table
from vidpref.interop.tokenizers import TOKENIZER_FILES, read_tokenizer, tokenizer_fault
from vidpref.models.t5 import T5Encoder, from_config
from vidpref.storage.copies import here
from vidpref.training.sharding import abstract_params, batch_sharding, filled_up, replicated
from vidpref.typing import Array, Bool, Float, Int, PyTree

_ROWS = 16  # prompts at once


def build_text_encoder(config: ConfigDict, mesh: Mesh) -> TextEncoder:
    """Returns the encoder `config.name`, of size `config.length` x `config.dim`.

    Args:
        config: `config.text` of a run.
        mesh: where a network computes.

    Raises:
        ValueError: see `check_text`, and a folder that does not hold such an encoder.
    """
    check_text(config)
    if config.name == "words":
        return WordTable(config.length, config.dim, truncate=config.truncate)
    return T5TextEncoder(config, mesh)


def check_text(config: ConfigDict) -> None:
    """Refuses a config that names no encoder, without reading weights.

    Raises:
        ValueError: a value out of its range, or a folder that does not hold such an encoder: its
            weights, or a file of its tokenizer, are missing, cut short or stand-ins.
    """
    check_section(Text, config, "config.text")
    if config.name == "words":
        return
    folder, tokenizer = _folders(config)
    _build_module(config, folder)
    faults = [weights_fault(folder), tokenizer_fault(tokenizer)]
    if any(faults):
        raise ValueError("; ".join(fault for fault in faults if fault))


def weights_digest(config: ConfigDict) -> str:
    """Returns digits that change with the encoder's weights and tokenizer; "" without any.

    Args:
        config: `config.text` of a run.
    """
    return "" if config.name == "words" else _digest(*_folders(config))


class T5TextEncoder:
    """T5 v1.1 or UMT5 as the pipelines of diffusers use them; a `TextEncoder`.

    The weights are read at the first prompt, straight onto the devices. Longer prompts are cut, as
    the pipelines do; how many is logged.

    Args:
        config: `config.text` of a run. `path`: a diffusers pipeline, or a folder with `config.json`
            and safetensors and either the tokenizer's files or those in `../tokenizer`. `padding`:
            "hidden" (Wan: tokens do not attend to padding, whose states are zero) or "seen"
            (CogVideoX: padding is text like any other). `clean`: mend the text with ftfy, undo HTML
            escapes and join white space first (Wan). `dtype`: of parameters, computation, states.
        mesh: where the network computes.

    Raises:
        ValueError: a folder that does not hold such an encoder.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self.length, self.dim = config.length, config.dim
        self._seen, self._clean, self._mesh = config.padding == "seen", config.clean, mesh
        self._config = config
        self._folder, tokenizer = _folders(config)
        self._module = _build_module(config, self._folder)
        self._tokenizer = read_tokenizer(tokenizer)
        self._params: PyTree = None
        how = f"{config.padding}-{'clean' if self._clean else 'raw'}-{config.dtype}"
        self.fingerprint = (
            f"{config.name}-v2-{_digest(self._folder, tokenizer)}-{self.length}x{self.dim}-{how}"
        )
        self._rows = rows_at_once(mesh)
        # a program that held self would keep the weights until a collection
        self._apply = encoding_text(self._module, mesh)

    def encode(self, prompts: Sequence[str]) -> tuple[Float[Array, "b l d"], Bool[Array, "b l"]]:
        """Returns the states of all tokens and which of them are text (all, if padding is seen).

        Raises:
            ValueError: the tokenizer is not that of the encoder.
        """
        tokens, mask = self._tokenize([_cleaned(p) if self._clean else p for p in prompts])
        if self._params is None:
            self._params = self._load()
        states = [
            self._states(tokens[i : i + self._rows], mask[i : i + self._rows])
            for i in range(0, len(tokens), self._rows)
        ]
        text = np.concatenate(states)
        text[~mask] = 0
        return text, mask

    def _tokenize(
        self, prompts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
        whole = [len(ids) for ids in self._tokenizer(list(prompts))["input_ids"]]
        cut = [prompt for prompt, n in zip(prompts, whole, strict=True) if n > self.length]
        if cut:
            logging.warning(
                "%d of %d prompts have more than config.text.length=%d tokens and are cut; the "
                "first is %r",
                len(cut),
                len(prompts),
                self.length,
                cut[0],
            )
        batch = self._tokenizer(
            list(prompts), padding="max_length", max_length=self.length, truncation=True
        )
        tokens = np.asarray(batch["input_ids"], np.int32)
        mask = np.asarray(batch["attention_mask"], bool)
        if tokens.max() >= self._module.vocab_size:
            raise ValueError(
                f"the tokenizer gives token {tokens.max()}, but the encoder in {self._folder} has "
                f"vocab_size={self._module.vocab_size}: they do not belong together"
            )
        return tokens, np.ones_like(mask) if self._seen else mask

    def _states(self, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """States of up to `_rows` prompts; padded with copies, to compile one shape."""
        rows = np.minimum(np.arange(self._rows), len(tokens) - 1)
        sharding = batch_sharding(self._mesh)
        inputs = [
            jax.make_array_from_callback((self._rows, self.length), sharding, whole.__getitem__)
            for whole in (tokens[rows], mask[rows])
        ]
        return np.asarray(self._apply(self._params, *inputs))[: len(tokens)]

    def _load(self) -> PyTree:
        target = abstract_text_params(self._module, self._config, self._mesh)
        table = t5_table(self._module)
        return load_onto(target, self._folder, table, ignore=NOT_OF_THE_ENCODER)


def encoding_text(module: T5Encoder, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the compiled program `(params, tokens [b, l], mask [b, l]) -> states [b, l, d]`."""
    return jax.jit(
        lambda params, *inputs: module.apply({"params": params}, *inputs),
        out_shardings=replicated(mesh),
    )


def rows_at_once(mesh: Mesh) -> int:
    """Returns the number of prompts that the program is given, a multiple of those that hold it."""
    return filled_up(_ROWS, mesh)


def abstract_text_params(module: T5Encoder, config: ConfigDict, mesh: Mesh) -> PyTree:
    """Returns shapes and places of the encoder's parameters, in `config.dtype`."""
    example = jnp.zeros((1, config.length), jnp.int32)
    boxed = jax.eval_shape(module.init, jax.random.key(0), example)["params"]
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(config.dtype), sharding=x.sharding),
        abstract_params(boxed, mesh),
    )


def text_module(config: ConfigDict) -> T5Encoder:
    """Returns the encoder of `config.path`; without one, that with the published sizes.

    Args:
        config: `config.text` of a run; its name is t5 or umt5.

    Raises:
        ValueError: a folder that does not hold such an encoder.
    """
    if config.path:
        return _build_module(config, _folders(config)[0])
    return from_config(published_fields(config.name), dtype=config.dtype)


def published_fields(name: str) -> dict[str, object]:
    """Returns config.json of google/t5-v1_1-xxl or google/umt5-xxl, which the pipelines hold."""
    vocabulary = {"t5": 32128, "umt5": 256384}[name]
    sizes = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    return {
        "model_type": name,
        "vocab_size": vocabulary,
        "feed_forward_proj": "gated-gelu",
        **sizes,
    }


def _build_module(config: ConfigDict, folder: Path) -> T5Encoder:
    fields = component_config(folder)
    if fields.get("model_type") != config.name:
        raise ValueError(
            f"config.text.name={config.name!r}, but {folder}/config.json says "
            f"model_type={fields.get('model_type')!r}"
        )
    try:
        module = from_config(fields, dtype=config.dtype)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    if module.d_model != config.dim:
        raise ValueError(
            f"config.text.dim={config.dim}, but the encoder in {folder} has "
            f"d_model={module.d_model}"
        )
    return module


def _cleaned(prompt: str) -> str:
    """Wan's cleaning of prompts: straight quotes, no mojibake, no HTML escapes, single spaces."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(prompt)))).strip()


def _folders(config: ConfigDict) -> tuple[Path, Path]:
    """The folders of weights and tokenizer."""
    path = here(config.path)
    if not config.path or not path.is_dir():
        raise ValueError(
            f"config.text.path={config.path!r} is no folder; give that of the {config.name} "
            "encoder (config.json, safetensors, tokenizer files) or of a diffusers pipeline, or "
            "use the word table: --config.text.name=words --config.text.dim=256"
        )
    if (path / "model_index.json").exists():
        path = path / "text_encoder"
    for tokenizer in (path, path.parent / "tokenizer"):
        if any((tokenizer / name).exists() for name in TOKENIZER_FILES):
            return path, tokenizer
    raise ValueError(
        f"config.text.path: neither {path} nor {path.parent / 'tokenizer'} holds a tokenizer "
        f"({', '.join(TOKENIZER_FILES)})"
    )


def _digest(folder: Path, tokenizer: Path) -> str:
    """Changes with the weights or the tokenizer."""
    return digest(folder, ["config.json", *(tokenizer / name for name in TOKENIZER_FILES)])
