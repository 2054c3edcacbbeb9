"""Small Qwen-VL models of transformers with random weights, and batches for them and for ours."""

import functools

import numpy as np
import torch
import transformers

from tests.models.torch_parity import randomize
from vidpref.models.qwen_vl.packing import Row
from vidpref.models.qwen_vl.positions import Media

IMAGE, VIDEO, START, END = 60, 61, 62, 63
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
_TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
}
_VISION = {
    "depth": 2,
    "num_heads": 2,
    "patch_size": 4,
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": 32,
}
CONFIGS = {
    "qwen2_vl": {
        "text_config": _TEXT,
        "vision_config": {
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
        },
        "tie_word_embeddings": True,
    },
    "qwen2_5_vl": {
        "text_config": _TEXT,
        "vision_config": {
            **_VISION,
            "depth": 3,
            "window_size": 16,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        "tie_word_embeddings": False,
    },
    "qwen3_vl": {
        "text_config": {
            **_TEXT,
            "num_hidden_layers": 3,
            "head_dim": 12,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 2, 2],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            **_VISION,
            "hidden_act": "gelu_pytorch_tanh",
            "depth": 3,
            "num_position_embeddings": 25,
            "deepstack_visual_indexes": [0, 2],
        },
        "tie_word_embeddings": False,
    },
}
CLASSES = {
    "qwen2_vl": (transformers.Qwen2VLConfig, transformers.Qwen2VLForConditionalGeneration),
    "qwen2_5_vl": (transformers.Qwen2_5_VLConfig, transformers.Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": (transformers.Qwen3VLConfig, transformers.Qwen3VLForConditionalGeneration),
}


def original(family: str, **fields):
    """Returns a small model of transformers, in float32, moved away from its first weights."""
    config, model = CLASSES[family]
    torch.manual_seed(0)
    config = config(**CONFIGS[family], **TOKENS, **fields)
    config._attn_implementation = "eager"
    model = model(config).eval()
    randomize(model)
    return model


def row(family: str, *parts, seed: int = 0) -> Row:
    """Returns a row of text (a number of tokens) and media (a `Media`) in the given order."""
    rng = np.random.default_rng([seed, len(parts)])
    tokens, media, pixels = [], [], []
    for part in parts:
        if isinstance(part, int):
            tokens += rng.integers(0, IMAGE, part).tolist()
            continue
        t, h, w = part.grid
        media.append(part)
        pixels.append(rng.normal(size=(t, h * w, 2 * 4 * 4 * 3)).astype(np.float32))
        blocks = t if family == "qwen3_vl" else 1
        for _ in range(blocks):
            if family == "qwen3_vl" and part.is_video:
                tokens += rng.integers(0, IMAGE, 2).tolist()  # the time
            pad = VIDEO if part.is_video else IMAGE
            tokens += [START, *[pad] * (t // blocks * h * w // 4), END]
    return Row(np.array(tokens, np.int32), media, pixels)


def image(h: int, w: int) -> Media:
    return Media((1, h, w), False)


def video(t: int, h: int, w: int, seconds: float = 1.0) -> Media:
    return Media((t, h, w), True, seconds)


BATCHES = {
    "text": [(7,), (4,)],
    "mixed": [
        (2, image(4, 6), 3),
        (2, image(4, 2), 1, image(2, 6), 3),
        (video(3, 6, 4, 0.5), 2),
        (5,),
        (1, video(2, 2, 2), 1, image(6, 10), 2, video(1, 4, 4), 3),
    ],
}


@functools.cache
def batch(family: str, name: str) -> list[Row]:
    return [row(family, *parts, seed=i) for i, parts in enumerate(BATCHES[name])]


def their_inputs(rows: list[Row], inputs) -> dict[str, torch.Tensor]:
    """Returns the keyword arguments of the model of transformers for rows and our inputs."""
    kinds = {}
    for row in rows:
        for media, pixels in zip(row.media, row.pixels, strict=True):
            # [t, n, (2, 4, 4, 3)] to [t n, (3, 2, 4, 4)]
            flat = pixels.reshape(-1, 2, 4, 4, 3).transpose(0, 4, 1, 2, 3).reshape(-1, 96)
            kinds.setdefault(media.is_video, []).append((media.grid, flat))
    found = {}
    for is_video, (values, grid) in {
        False: ("pixel_values", "image_grid_thw"),
        True: ("pixel_values_videos", "video_grid_thw"),
    }.items():
        if is_video in kinds:
            grids, flat = zip(*kinds[is_video], strict=True)
            found[values] = torch.tensor(np.concatenate(flat))
            found[grid] = torch.tensor(grids)
    text = np.maximum(np.cumsum(inputs.mask, axis=1) - 1, 0)
    positions = np.concatenate([text[None], inputs.positions.transpose(2, 0, 1)])
    return {
        "input_ids": torch.tensor(inputs.tokens).long(),
        "attention_mask": torch.tensor(inputs.mask).long(),
        "position_ids": torch.tensor(positions).long(),
        **found,
    }
