"""Small Wan networks, and the configs of the published ones."""

T2V = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 2,
    "attention_head_dim": 20,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 10,
    "freq_dim": 16,
    "ffn_dim": 24,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 32,
    "pos_embed_seq_len": None,
}
I2V = {**T2V, "in_channels": 12, "image_dim": 6, "added_kv_proj_dim": 40}
TRANSFORMERS = {
    "t2v": T2V,
    "no_cross_norm": {**T2V, "cross_attn_norm": False, "patch_size": [2, 2, 2]},
    "i2v": I2V,
}

VAE = {
    # RMS norms over fewer channels amplify rounding, by how much depends on the processor
    "base_dim": 12,
    "z_dim": 3,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [True, True],
    "dropout": 0.0,
    "latents_mean": [-0.5, 0.2, 0.1],
    "latents_std": [1.5, 0.7, 2.0],
    "scale_factor_spatial": 4,
}
# as many levels and blocks as the published one
DEEP_VAE = {
    **VAE,
    "decoder_base_dim": 8,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "scale_factor_spatial": 8,
}

# the config.json of each published transformer
PUBLISHED_T2V_14B = {
    "_class_name": "WanTransformer3DModel",
    "_diffusers_version": "0.33.0.dev0",
    "added_kv_proj_dim": None,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-06,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "image_dim": None,
    "in_channels": 16,
    "num_attention_heads": 40,
    "num_layers": 40,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
    "text_dim": 4096,
}
PUBLISHED_I2V_14B = {
    **PUBLISHED_T2V_14B,
    "added_kv_proj_dim": 5120,
    "image_dim": 1280,
    "in_channels": 36,
}
PUBLISHED = {
    "T2V_1_3B": {
        **PUBLISHED_T2V_14B,
        "num_attention_heads": 12,
        "num_layers": 30,
        "ffn_dim": 8960,
    },
    "T2V_14B": PUBLISHED_T2V_14B,
    "I2V_14B": PUBLISHED_I2V_14B,
}
