"""A small Qwen2-VL from nothing: random weights, a tokenizer of bytes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax.core import meta
from ml_collections import ConfigDict

from vidpref.config.judge import ANSWERS
from vidpref.files import write_text
from vidpref.interop.qwen_vl_folders import QwenVLFolder, export_qwen_vl
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.language.chat_tokens import IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import smallest
from vidpref.storage import mirror


def scratch_config(judge: ConfigDict, tokenizer: ByteTokenizer) -> QwenVLConfig:
    """Returns the config of the model.

    What answers has a head of its own: read off the embedding, it takes twice the steps to say
    anything at all (measured: docs/measurements.md, "A judge that sees"). What scores needs none.

    Args:
        judge: the config's section.
        tokenizer: its own.

    Raises:
        ValueError: sizes that do not fit each other.
    """
    section = judge.scratch
    width, heads = section.width, section.heads
    if width % (16 * heads):
        raise ValueError(
            f"config.judge.scratch: width={width} must be a multiple of 16 x heads={heads}"
        )
    pairs = width // heads // 2  # of features of a head, that turn with time, row and column
    return QwenVLConfig.read(
        {
            "model_type": "qwen2_vl",
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": section.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e4,
            "rope_scaling": {
                "type": "mrope",
                "mrope_section": [pairs // 4, pairs * 3 // 8, pairs * 3 // 8],
            },
            "tie_word_embeddings": judge.name != ANSWERS,
            **numbers_of_tokens(tokenizer.numbers()),
            "vision_config": {
                "depth": section.vision_layers,
                "embed_dim": section.vision_width,
                "hidden_size": width,
                "num_heads": section.heads,
                "mlp_ratio": 4,
                "patch_size": section.patch,
            },
        }
    )


def numbers_of_tokens(numbers: Mapping[str, int]) -> dict[str, int]:
    """Returns the fields of a config.json that say which tokens stand for images and videos.

    Args:
        numbers: of the special tokens.
    """
    fields = {"vision_start": VISION_START, "vision_end": VISION_END}
    fields |= {"image": IMAGE_PAD, "video": VIDEO_PAD}
    return {f"{field}_token_id": numbers[token] for field, token in fields.items()}


def write_scratch_model(
    out: Path, config: QwenVLConfig, tokenizer: ByteTokenizer, seed: int
) -> None:
    """Writes the model to a new folder, as transformers reads it.

    Args:
        out: the folder; it appears whole. Nothing is done where it is there.
        config: result of `scratch_config`.
        tokenizer: as there.
        seed: seed of the weights.
    """
    if mirror.mirrored(out):  # where a folder of files is not put whole
        mirror.remove(out)
    if out.exists():
        return
    module = QwenVL(config)

    def init(key: jax.Array) -> dict:
        return meta.unbox(module.init(key, smallest(config))["params"])

    source = without_weights(out.with_name("tokenizer"), config.write(), tokenizer).path
    params = jax.jit(init)(jax.random.key(seed))
    export_qwen_vl(out, module, params, source=source, dtype="float32")


def without_weights(
    folder: Path, fields: Mapping[str, Any], tokenizer: ByteTokenizer
) -> QwenVLFolder:
    """Writes a model with a tokenizer and no weights, and returns it.

    Args:
        folder: created if absent.
        fields: of its config.json.
        tokenizer: its own.
    """
    tokenizer.write(folder)
    write_text(folder / "config.json", json.dumps(fields, indent=2) + "\n")
    return QwenVLFolder(folder)
