"""Folders of Qwen-VL models, as transformers reads and writes them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vidpref.interop.export import DTYPES, SHARD_BYTES, copy_rest, new_folder, tensors_of
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.qwen_vl import qwen_vl_table, spelling_of, written_spelling
from vidpref.interop.safetensors_files import STEMS, TensorFolder, write_tensors
from vidpref.interop.table import plan, tensor_shapes
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.storage.copies import here
from vidpref.typing import PyTree


class QwenVLFolder:
    """A model that `save_pretrained` of transformers wrote, or a download of one.

    Attributes:
        path: the folder.
        config: what its config.json says.

    Raises:
        ValueError: no such folder, or one of another model.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = here(path)
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: no such folder of a Qwen-VL model")
        try:
            self.config = QwenVLConfig.read(component_config(self.path))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def module(self, **options: Any) -> QwenVL:
        """Returns the network; `options` are fields that transformers does not have."""
        return QwenVL(self.config, **options)

    def load(
        self,
        module: QwenVL,
        target: PyTree,
        keep: Callable[[tuple[str, ...], jax.Array], PyTree] | None = None,
    ) -> PyTree:
        """Returns the parameters as `load_onto` places them.

        Args:
            module: the network.
            target: `jax.ShapeDtypeStruct`s with shardings.
            keep: see `load_onto`.

        Raises:
            ValueError: weights that are missing, damaged, or not those of the config.
        """
        try:
            spelling = spelling_of(TensorFolder(self.path).shapes)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        return load_onto(target, self.path, qwen_vl_table(module, spelling), keep=keep)


def export_qwen_vl(
    out: Path,
    module: QwenVL,
    params: PyTree,
    *,
    source: Path | None = None,
    dtype: str = "bfloat16",
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder that `from_pretrained` of transformers loads.

    Every process must call this, and the first one writes; it holds one tensor at a time.

    Args:
        out: the new folder; an empty one is replaced.
        module: the network.
        params: its parameters, boxed or not, on the devices of all processes or on the host.
        source: folder that the training started from, whose tokenizer and settings go along; its
            config.json too where it is of the same network.
        dtype: type of the weights, one of `DTYPES`.
        max_shard_bytes: see `write_tensors`.

    Raises:
        ValueError: `out` holds something, parameters that are not those of `module`, or another
            type.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: weights are exported as {' or '.join(DTYPES)}")
    table = qwen_vl_table(module, written_spelling(module))
    parts = plan(tensor_shapes(params, table), table, expected=params)
    tensors = dict(sorted(tensors_of(parts, params, jnp.dtype(dtype)).items()))
    with new_folder(out) as folder:
        if folder is None:
            # the tensors come from the devices of all processes, in the order of the files
            for tensor in tensors.values():
                np.asarray(tensor)
            return
        write_tensors(folder, tensors, stem=STEMS[1], max_shard_bytes=max_shard_bytes)
        if source is not None:
            copy_rest(Path(source), folder, weights=".")
        if source is None or QwenVLFolder(source).config != module.config:
            fields = {**module.config.write(), "dtype": dtype}
            (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
