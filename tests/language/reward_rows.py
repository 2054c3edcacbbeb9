"""A tiny reward model's reader: bytes for tokens, small patches."""

import functools
from pathlib import Path

import jax
import numpy as np
from flax.core import meta

from vidpref.interop.qwen_vl_folders import export_qwen_vl
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.patches import Eye
from vidpref.language.reward_template import RewardTemplate, reward_token
from vidpref.language.video_reward import RewardReader
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.packing import smallest

DIMENSIONS = ("visual_quality", "motion_quality", "text_alignment")
TEXT = "look <|VQ_reward|> move <|MQ_reward|> of {text_prompt}: <|TA_reward|>"
TEXT_SHARED = "of {text_prompt}:"


def tiny_config(vocab_size: int, **text) -> dict:
    """The config.json of a tiny Qwen2-VL with the tokens of the byte tokenizer."""
    return {
        "model_type": "qwen2_vl",
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "tie_word_embeddings": True,
        "vision_start_token_id": 259,
        "vision_end_token_id": 260,
        "image_token_id": 261,
        "video_token_id": 262,
        "vision_config": {
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
        },
        **text,
    }


def write_tiny_model(folder: Path, rng: np.random.Generator, scale: float) -> tuple:
    """Writes a tiny Qwen2-VL with its tokenizer; returns the network and its random parameters.

    It has more embeddings than tokens, as Qwen2-VL has.
    """
    module = QwenVL.from_config(tiny_config(300))
    shapes = jax.eval_shape(module.init, jax.random.key(0), smallest(module.config))["params"]
    params = jax.tree.map(
        lambda x: scale * rng.normal(size=x.shape).astype(np.float32), meta.unbox(shapes)
    )
    export_qwen_vl(folder, module, params, dtype="float32")
    ByteTokenizer().write(folder)
    return module, params


@functools.cache
def tiny_reader(folder: Path, *, shared: bool = False, **fields) -> RewardReader:
    """Returns a reader; `folder` gets its tokenizer."""
    tokenizer = ByteTokenizer(tuple(map(reward_token, DIMENSIONS)))
    tokenizer.write(folder)
    config = QwenVLConfig.read(tiny_config(len(tokenizer)))
    template = RewardTemplate(TEXT_SHARED if shared else TEXT, DIMENSIONS, shared)
    eye = Eye.of(config, images=(64, 256), videos=(64, 256), resizer="float", one_factor_first=True)
    return RewardReader(config, ChatTokens(folder), template, eye, **fields)


def clip(frames: int = 8, size: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (frames, size, size, 3)).astype(np.uint8)
