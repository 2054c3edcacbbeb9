"""Sizes of `STDiT` and `DiT`: VideoAlign's network, one with full attention, small ones.

Each is the keyword arguments of the module besides `channels` and `text_dim`; `*_FULL` are those
of `DiT`.
"""

# VideoAlign appendix D gives the count, 1B, the order of the layers and that the clip is the
# latent of a 3-D VAE. Width and depth are those of DiT-XL (Peebles and Xie, table 1); patches in
# space only, as the VAE has compressed time already; text to video has no first frame.
# 1.04B with 16 latent channels and a text width of 4096.
PAPER = {
    "patch": (1, 2, 2),
    "width": 1152,
    "layers": 28,
    "head_dim": 64,
    "mlp_ratio": 4,
    "cond_dim": 1024,
    "first_frame": False,
    "remat": "full",
}

# For 8x16x16 pixels on CPU cores, a grid of 2x4x4 tokens; a patch of 2 frames costs twice the time.
MINI = {
    "patch": (4, 4, 4),
    "width": 96,
    "layers": 3,
    "head_dim": 32,
    "mlp_ratio": 4,
    "cond_dim": 128,
    "first_frame": True,
    "residual": "first_frame",
    "remat": "none",
}

# DiT-XL's width and depth (Peebles and Xie, table 1) with full attention and the first frame:
# 3,840 tokens of AIF's 16x24x40 pixels.
PAPER_FULL = {
    "patch": (1, 2, 2),
    "width": 1152,
    "layers": 28,
    "head_dim": 64,
    "mlp_ratio": 4,
    "cond_dim": 1024,
    "remat": "full",
}

MINI_FULL = {
    "patch": (4, 4, 4),
    "width": 128,
    "layers": 4,
    "head_dim": 32,
    "mlp_ratio": 4,
    "cond_dim": 128,
    "residual": "first_frame",
    "remat": "none",
}
