"""Sizes of Wan2.1's transformer.

Each is the keyword arguments of `Wan` that differ from the defaults, which are those of the 14B
text-to-video model; the autoencoder has one size, the defaults of `WanVAE`.
"""

# transformer/config.json of Wan-AI/Wan2.1-T2V-1.3B-Diffusers: 1.42B parameters
T2V_1_3B = {
    "num_attention_heads": 12,
    "ffn_dim": 8960,
    "num_layers": 30,
    "remat": "full",
}

# Wan-AI/Wan2.1-T2V-14B-Diffusers: 14.29B
T2V_14B = {"remat": "full"}

# Wan-AI/Wan2.1-I2V-14B-480P-Diffusers, and -720P: 16.39B. Into the network go the noisy latent,
# 4 channels that say which frames are given, their latent, and the states of CLIP's ViT-H.
I2V_14B = {
    "in_channels": 36,
    "image_dim": 1280,
    "added_kv_proj_dim": 5120,
    "remat": "full",
}
