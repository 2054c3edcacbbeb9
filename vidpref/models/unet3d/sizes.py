"""Sizes of `UNet3D`: the two networks of AIF, and small ones for the mini world.

Each is the keyword arguments of `UNet3D` besides `channels` and `text_dim`.
"""

# AIF appendix A: 1.6B for 16x24x40 pixels, 512 channels times 1, 2, 4, attention at heights 24, 12
# and 6, head dim 64, conditioning 1024. The paper's "3 residual blocks" are those of a down and of
# an up level; the deepest level runs its down, middle and up blocks, 10 in all, as one scan, which
# brings the count to 1.59B.
PAPER_BASE = {
    "patch": (1, 1, 1),
    "features": (512, 1024, 2048),
    "blocks": (3, 3, 10),
    "spatial": (True, True, True),
    "temporal": (True, True, True),
    "cross": (True, True, True),
    "head_dim": 64,
    "cond_dim": 1024,
    "groups": 32,
    "remat": "full",
}

# AIF gives only the count, 1.4B, and the sizes, 16x24x40 -> 16x192x320. As in Imagen's efficient
# UNet the parameters are where the grid is small (12x20), and spatial attention and attention to
# the text start at 24x40; finer grids cannot afford them. 1.44B.
PAPER_SUPERRES = {
    "patch": (1, 2, 2),
    "features": (256, 512, 1024, 2048),
    "blocks": (2, 2, 3, 9),
    "spatial": (False, False, True, True),
    "temporal": (False, True, True, True),
    "cross": (False, False, True, True),
    "head_dim": 64,
    "cond_dim": 1024,
    "groups": 32,
    "first_frame": False,
    "low_res": True,
    "remat": "full",
}

# 2.06M for 8x16x16 pixels on CPU cores: grids of 4x4 and 2x2, two steps in time, convolutions as
# matrix products. The output is the first frame plus a residual, so the network must predict x0.
# A patch of 4 frames trains 1.6 times as many clips a second as one of 2 frames.
MINI = {
    "patch": (4, 4, 4),
    "features": (64, 160),
    "blocks": (1, 2),
    "spatial": (False, False),
    "temporal": (True, True),
    "cross": (False, True),
    "head_dim": 32,
    "cond_dim": 128,
    "groups": 8,
    "residual": "first_frame",
    "conv": "matmul",
    "remat": "none",
}

# Behind MINI: 8x32x32 pixels, again on grids of 4x4 and 2x2.
MINI_SUPERRES = {
    **MINI,
    "patch": (4, 8, 8),
    "first_frame": False,
    "low_res": True,
    "residual": "low_res",
}
