"""I3D in plain PyTorch, by the names of pytorch-i3d: a reference that shares no code.

TensorFlow's SAME puts the odd row of padding behind. pytorch-i3d pads pools with zeros as here.
"""

import torch
import torch.nn.functional as F
from torch import nn

MIXED = {
    "3b": "192 64 96 128 16 32 32",
    "3c": "256 128 128 192 32 96 64",
    "4b": "480 192 96 208 16 48 64",
    "4c": "512 160 112 224 24 64 64",
    "4d": "512 128 128 256 24 64 64",
    "4e": "512 112 144 288 32 64 64",
    "4f": "528 256 160 320 32 128 128",
    "5b": "832 256 160 320 32 128 128",
    "5c": "832 384 192 384 48 128 128",
}


def same(x, kernel, stride):
    """Zeros around x, so that ceil(size / stride) positions come out of each side."""
    pads = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        more = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [more // 2, more - more // 2]
    return F.pad(x, pads)


def pool(x, kernel, stride):
    return F.max_pool3d(same(x, kernel, stride), kernel, stride)


class Unit(nn.Module):
    def __init__(self, c, features, k, stride=1, eps=1e-3, normed=True):
        super().__init__()
        self.k, self.stride = (k,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(c, features, k, stride, bias=not normed)
        if normed:
            self.bn = nn.BatchNorm3d(features, eps=eps)

    def forward(self, x):
        x = self.conv3d(same(x, self.k, self.stride))
        return F.relu(self.bn(x)) if hasattr(self, "bn") else x


class Mixed(nn.Module):
    def __init__(self, widths, eps):
        super().__init__()
        c, a, b, d, e, f, g = map(int, widths.split())
        self.b0, self.b1a, self.b1b = Unit(c, a, 1, 1, eps), Unit(c, b, 1, 1, eps), Unit(b, d, 3)
        self.b2a, self.b2b, self.b3b = Unit(c, e, 1, 1, eps), Unit(e, f, 3), Unit(c, g, 1, 1, eps)
        self.b1b.bn.eps = self.b2b.bn.eps = eps

    def forward(self, x):
        pooled = pool(x, (3, 3, 3), (1, 1, 1))
        found = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)
        return torch.cat(found, dim=1)


class I3d(nn.Module):
    def __init__(self, classes=400, eps=1e-3):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2, eps)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1, 1, eps)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3, 1, eps)
        for name, widths in MIXED.items():
            self.add_module(f"Mixed_{name}", Mixed(widths, eps))
        self.logits = Unit(1024, classes, 1, normed=False)

    def forward(self, x):
        """Clips [b, 3, t, h, w] to logits averaged over what is left of time."""
        x = pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = pool(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))
        for name in "bcdef":
            x = getattr(self, f"Mixed_4{name}")(x)
        x = pool(x, (2, 2, 2), (2, 2, 2))
        x = F.avg_pool3d(self.Mixed_5c(self.Mixed_5b(x)), (2, 7, 7), 1)
        return self.logits(x).squeeze(3).squeeze(3).mean(2)
