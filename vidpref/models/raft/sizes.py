"""RAFT's two sizes, as keyword arguments of `Raft`: `raft_large`, `raft_small` of torchvision."""

PUBLISHED = {
    "large": {
        "encoder": (64, 64, 96, 128, 256),
        "context": (64, 64, 96, 128, 256),
        "state": 128,
        "norms": ("instance", "batch"),
        "bottleneck": False,
        "radius": 4,
        "correlation": (256, 192),
        "flow": (128, 64),
        "motion": 128,
        "kernels": ((1, 5), (5, 1)),
        "head": 256,
        "mask": 256,
    },
    "small": {
        "encoder": (32, 32, 64, 96, 128),
        "context": (32, 32, 64, 96, 160),
        "state": 96,
        "norms": ("instance", "none"),
        "bottleneck": True,
        "radius": 3,
        "correlation": (96,),
        "flow": (64, 32),
        "motion": 82,
        "kernels": ((3, 3),),
        "head": 128,
        "mask": 0,
    },
}
