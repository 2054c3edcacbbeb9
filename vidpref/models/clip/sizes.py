"""Sizes of CLIP's vision tower, as keyword arguments of `ClipVision`."""

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
