"""What a plan of any judge that is a network needs: its base, a host's devices, a drawn clip."""

from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.stages.judge_kinds import KINDS, scratch_tokenizer
from vidpref.stages.scratch_model import numbers_of_tokens, scratch_config, without_weights
from vidpref.storage.copies import is_folder
from vidpref.training.sharding import make_mesh
from vidpref.typing import UInt8

_SMALLEST = "Qwen2-VL-2B"  # what VideoReward was made of
_BYTES_A_TOKEN = 4.0  # of English in Qwen's tokenizer


def planned_base(config: ConfigDict, folder: Path, base: str = "") -> QwenVLFolder:
    """Returns the model of `config.judge`; without weights where it is not there.

    Its size is then that of the published model of its name, and its tokens are bytes.

    Args:
        config: the whole config.
        folder: an empty one, for what is written of a model that is not there.
        base: the model, where it is another.

    Raises:
        ValueError: a name that is no folder's and of no published model.
    """
    section, named = config.judge, base or config.judge.base
    if (base or not section.scratch.layers) and is_there(named):
        return QwenVLFolder(named)
    if section.scratch.layers and not base:
        tokenizer = scratch_tokenizer(config)
        return without_weights(folder, scratch_config(section, tokenizer).write(), tokenizer)
    name = Path(named).name.removesuffix("-Instruct") or _SMALLEST
    if name not in PUBLISHED:
        field = "reward.vlm_judge.folder" if base else "judge.base"
        raise ValueError(
            f"config.{field}={named!r} is no folder, nor the name of a model whose size is known: "
            f"{', '.join(PUBLISHED)}"
        )
    kind = KINDS.get(section.name)
    tokenizer = ByteTokenizer(kind.tokens(config) if kind else ())
    fields = PUBLISHED[name] | numbers_of_tokens(tokenizer.numbers())
    return without_weights(folder, fields, tokenizer)


def bytes_of_a_token(config: ConfigDict, base: str = "") -> float:
    """Returns how many tokens of `planned_base`, arguments as there, the model makes one of."""
    if config.judge.scratch.layers and not base:
        return 1.0
    return 1.0 if is_there(base or config.judge.base) else _BYTES_A_TOKEN


def is_there(base: str) -> bool:
    """Whether a model's folder is there."""
    return bool(base) and is_folder(base)


def host_mesh(mesh: Mesh) -> Mesh:
    """Returns the mesh of one host's devices, over which a run lays a judge that it asks."""
    first = mesh.devices.flat[0]
    host = [d for d in mesh.devices.flat if d.process_index == first.process_index]
    return make_mesh({"fsdp": -1}, host)


def drawn_clip(config: ConfigDict) -> UInt8[np.ndarray, "t h w 3"]:
    """Returns a clip as large as those that a run draws."""
    data = config.data
    size = (data.height, data.width)
    if config.superres.enabled:
        size = (data.high_height, data.high_width)
    return np.zeros((data.frames, *size, 3), np.uint8)


def longest_prompt(config: ConfigDict) -> str:
    """Returns a prompt as long as the generator reads, in words of a token each."""
    return " ".join(["word"] * config.text.length)
