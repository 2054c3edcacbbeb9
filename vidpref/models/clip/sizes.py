"""Sizes of CLIP: of its vision tower for Wan, and of both towers as a config.json has them."""

# image_encoder/config.json of Wan-AI/Wan2.1-I2V-14B-480P-Diffusers: OpenCLIP's ViT-H/14, trained
# with XLM-RoBERTa
VIT_H = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
}

_NAMES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def _both(width: int, text: tuple, vision: tuple, patch: int, activation: str) -> dict:
    own = {"hidden_act": activation}
    return {
        "model_type": "clip",
        "projection_dim": width,
        "text_config": dict(zip(_NAMES, text, strict=True)) | own,
        "vision_config": dict(zip(_NAMES, vision, strict=True)) | own | {"patch_size": patch},
    }


# config.json of openai/clip-vit-base-patch16, openai/clip-vit-large-patch14 and
# laion/CLIP-ViT-H-14-laion2B-s32B-b79K; PickScore and HPSv2 are fine-tunes of the last
PUBLISHED = {
    "ViT-B/16": _both(512, (512, 2048, 12, 8), (768, 3072, 12, 12), 16, "quick_gelu"),
    "ViT-L/14": _both(768, (768, 3072, 12, 12), (1024, 4096, 24, 16), 14, "quick_gelu"),
    "ViT-H/14": _both(1024, (1024, 4096, 24, 16), (1280, 5120, 32, 16), 14, "gelu"),
}
