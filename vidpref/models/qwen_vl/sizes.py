"""The published models, as the fields of their config.json that say what is computed."""

from typing import Any


def _text(width: int, layers: int, heads: int, kv: int, ffn: int, vocab: int = 151936) -> dict:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": ffn,
        "vocab_size": vocab,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
    }


def _qwen2(text: dict, *, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen2_vl",
        **text,
        "rope_theta": 1_000_000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": tied,
        "vision_config": {
            "depth": 32,
            "embed_dim": 1280,
            "num_heads": 16,
            "mlp_ratio": 4,
            "hidden_size": text["hidden_size"],
            "patch_size": 14,
        },
    }


def _qwen2_5(text: dict, *, tied: bool) -> dict[str, Any]:
    return {
        **_qwen2(text, tied=tied),
        "model_type": "qwen2_5_vl",
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
            "hidden_act": "silu",
            "patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
        },
    }


def _qwen3(text: dict, vision: dict, *, tied: bool) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    return {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": tied,
        "text_config": {
            **text,
            "head_dim": 128,
            "rope_theta": 5_000_000.0,
            "rope_scaling": rope,
        },
        "vision_config": {
            **vision,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
            "hidden_act": "gelu_pytorch_tanh",
            "patch_size": 16,
            "num_position_embeddings": 2304,
        },
    }


_SMALL_TOWER = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}
_LARGE_TOWER = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "deepstack_visual_indexes": [8, 16, 24],
}
_7B = _text(3584, 28, 28, 4, 18944, 152064)

PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen2-VL-2B": _qwen2(_text(1536, 28, 12, 2, 8960), tied=True),
    "Qwen2-VL-7B": _qwen2(_7B, tied=False),
    "Qwen2.5-VL-3B": _qwen2_5(_text(2048, 36, 16, 2, 11008), tied=True),
    "Qwen2.5-VL-7B": _qwen2_5(_7B, tied=False),
    "Qwen3-VL-2B": _qwen3(_text(2048, 28, 16, 8, 6144), _SMALL_TOWER, tied=True),
    "Qwen3-VL-4B": _qwen3(_text(2560, 36, 32, 8, 9728), _SMALL_TOWER, tied=True),
    "Qwen3-VL-8B": _qwen3(_text(4096, 36, 32, 8, 12288), _LARGE_TOWER, tied=False),
}
