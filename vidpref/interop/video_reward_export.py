"""Export of reward models as folders in the layout of VideoReward."""

import dataclasses
import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vidpref.files import write_text
from vidpref.interop.export import DTYPES, SHARD_BYTES, new_folder, tensors_of
from vidpref.interop.qwen_vl import OLD
from vidpref.interop.safetensors_files import STEMS, write_tensors
from vidpref.interop.table import plan, tensor_shapes
from vidpref.interop.video_reward import CONFIG, SETTINGS, TEMPLATE, TOKENIZER
from vidpref.interop.video_reward_names import (
    PEFT,
    UNUSED_HEAD,
    adapted_in,
    reward_table,
    with_tokens,
)
from vidpref.interop.video_reward_settings import VideoRewardSettings
from vidpref.language.video_reward import RewardReader
from vidpref.models.lora import Adapted
from vidpref.models.qwen_vl.reward import QwenVLReward
from vidpref.typing import Array, PyTree


def export_video_reward(
    out: Path,
    module: QwenVLReward,
    policy: PyTree | Adapted,
    settings: VideoRewardSettings,
    reader: RewardReader,
    *,
    step: int = 1,
    dtype: str = "bfloat16",
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a folder that `VideoRewardFolder` reads, in the layout of VideoAlign's.

    The head of the language model, which scores need not, is written as the embedding that it is
    tied to, since VideoAlign's loader wants it; that of a model whose head is its own is left out.
    Embeddings beyond the tokenizer's are cut off, as VideoAlign does.
    Every process must call this, and the first one writes.

    Args:
        out: the new folder; an empty one is replaced.
        module: the network.
        policy: its parameters, or `Adapted`; the adapters are of the model's linear layers.
        settings: what it was trained with; `lora` is that of `policy`.
        reader: its template and tokenizer.
        step: number of the checkpoint.
        dtype: type of the weights, one of `DTYPES`.
        max_shard_bytes: see `write_tensors`.

    Raises:
        ValueError: `out` holds something, or another type.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: weights are exported as {' or '.join(DTYPES)}")
    adapted = isinstance(policy, Adapted)
    params = dict(nn.unbox(policy.base if adapted else policy))
    rows = min(len(reader.tokens), module.config.text.vocab_size)
    own = params.pop("tokens", None)
    params["model"] = _embedding(params["model"], rows, own, reader.token_ids)
    config = with_tokens(module.config, rows)
    tree = {"params": params, **({"adapters": nn.unbox(policy.adapters)} if adapted else {})}
    lora = (policy.spec.rank, float(policy.spec.alpha)) if adapted else None
    settings = dataclasses.replace(settings, lora=lora)
    prefix = PEFT if adapted else ""
    table = reward_table(module, prefix, OLD, adapted_in(tree))
    parts = plan(tensor_shapes(tree, table), table, expected=tree)
    tensors = dict(tensors_of(parts, tree, jnp.dtype(dtype)))
    if module.config.text.tie_word_embeddings:
        tensors[prefix + UNUSED_HEAD] = tensors[f"{prefix}{OLD[0]}embed_tokens.weight"]
    tensors = dict(sorted(tensors.items()))
    with new_folder(out) as folder:
        if folder is None:
            # the tensors come from the devices of all processes, in the order of the files
            for tensor in tensors.values():
                np.asarray(tensor)
            return
        checkpoint = folder / f"checkpoint-{step}"
        write_tensors(checkpoint, tensors, stem=STEMS[1], max_shard_bytes=max_shard_bytes)
        reader.tokens.save(checkpoint / TOKENIZER)
        write_text(folder / TEMPLATE, reader.template.text + "\n")
        for name, fields in ((SETTINGS, settings.write()), (CONFIG, config.write())):
            write_text(folder / name, json.dumps(fields, indent=2) + "\n")


def _embedding(model: PyTree, rows: int, own: Array | None, numbers: list[int]) -> PyTree:
    """The model with the first rows of its embedding, some of them exchanged."""

    def change(x: Array, own: Array | None) -> Array:
        return x[:rows] if own is None else x[:rows].at[np.array(numbers)].set(own.astype(x.dtype))

    given = None if own is None else jnp.asarray(own)
    embedding = jax.jit(change)(jnp.asarray(model["embed"]["embedding"]), given)
    return {**model, "embed": {**model["embed"], "embedding": embedding}}
