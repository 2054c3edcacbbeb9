"""The video processors of transformers, for what they compute without torchvision.

Their modules import torchvision, which does not go with the CPU build of PyTorch; which frames they
take, in what size, and how they cut them needs PyTorch alone.
"""

import importlib
import sys
import types

_ABSENT = ("torchvision", "torchvision.transforms", "torchvision.transforms.v2")
_ABSENT += ("torchvision.transforms.v2.functional",)


def _imported(family: str) -> types.ModuleType:
    absent = [name for name in _ABSENT if name not in sys.modules]
    for name in absent:
        sys.modules[name] = types.ModuleType(name)
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, sys.modules[name])
    try:
        return importlib.import_module(f"transformers.models.{family}.video_processing_{family}")
    finally:
        for name in absent:
            del sys.modules[name]


qwen2_vl, qwen3_vl = _imported("qwen2_vl"), _imported("qwen3_vl")
