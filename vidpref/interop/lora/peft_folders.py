"""Adapters as the folders that `PeftModel.from_pretrained` loads."""

import json
from pathlib import Path

import safetensors.numpy

from vidpref.files import whole_file
from vidpref.interop.export import new_folder
from vidpref.interop.lora.files import PEFT_CONFIG, PEFT_FILE
from vidpref.interop.lora.writing import lora_config, lora_tensors
from vidpref.interop.table import Table
from vidpref.models.lora import LoRA
from vidpref.typing import PyTree

_PREFIX = "base_model.model."


def export_peft(out: Path, table: Table, adapters: PyTree, spec: LoRA, *, base: str = "") -> None:
    """Writes the adapters of a model of transformers, with the names of its modules in memory.

    Every process must call this, and the first one writes.

    Args:
        out: the new folder; an empty one is replaced.
        table: table of the network, in the names of its modules.
        adapters: adapters of `spec`, boxed or not.
        spec: rank and alpha; dropout is for training, and is not written.
        base: folder or name of the model that they stand beside; "" where it has none.

    Raises:
        ValueError: `out` holds something, or see `lora_tensors`.
    """
    tensors = lora_tensors(adapters, spec, table, prefix=_PREFIX)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        "bias": "none",
        "inference_mode": True,
        "lora_dropout": 0.0,
        **lora_config(tensors, spec, prefix=_PREFIX),
    }
    with new_folder(out) as folder:
        if folder is not None:
            with whole_file(folder / PEFT_FILE) as file:
                file.write_bytes(safetensors.numpy.save(tensors, {"format": "pt"}))
            text = json.dumps(config, indent=2, sort_keys=True)
            (folder / PEFT_CONFIG).write_text(text + "\n")
