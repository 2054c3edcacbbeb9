"""FID's Inception-V3 in plain PyTorch, by torchvision's names: a reference that shares no code.

torchvision's own wheel needs PyTorch with CUDA. Both were once compared with torchvision 0.28.0,
patched as pytorch-fid patches it (docs/ported.md).
"""

import torch
import torch.nn.functional as F
from torch import nn

# of a branch: name, (in, out, kernel, stride, padding); what follows is fed by what stands before
A = "branch1x1 {c} 64 1 | branch5x5_1 {c} 48 1 > branch5x5_2 48 64 5 | "
A += "branch3x3dbl_1 {c} 64 1 > branch3x3dbl_2 64 96 3 > branch3x3dbl_3 96 96 3 | "
A += "mean > branch_pool {c} {w} 1"
B = "branch3x3 {c} 384 3/2 | branch3x3dbl_1 {c} 64 1 > branch3x3dbl_2 64 96 3 > "
B += "branch3x3dbl_3 96 96 3/2 | max/2"
C = "branch1x1 {c} 192 1 | branch7x7_1 {c} {w} 1 > branch7x7_2 {w} {w} 1x7 > "
C += "branch7x7_3 {w} 192 7x1 | branch7x7dbl_1 {c} {w} 1 > branch7x7dbl_2 {w} {w} 7x1 > "
C += "branch7x7dbl_3 {w} {w} 1x7 > branch7x7dbl_4 {w} {w} 7x1 > branch7x7dbl_5 {w} 192 1x7 | "
C += "mean > branch_pool {c} 192 1"
D = "branch3x3_1 {c} 192 1 > branch3x3_2 192 320 3/2 | branch7x7x3_1 {c} 192 1 > "
D += "branch7x7x3_2 192 192 1x7 > branch7x7x3_3 192 192 7x1 > branch7x7x3_4 192 192 3/2 | max/2"
E = "branch1x1 {c} 320 1 | branch3x3_1 {c} 384 1 > branch3x3_2a 384 384 1x3 + "
E += "branch3x3_2b 384 384 3x1 | branch3x3dbl_1 {c} 448 1 > branch3x3dbl_2 448 384 3 > "
E += "branch3x3dbl_3a 384 384 1x3 + branch3x3dbl_3b 384 384 3x1 | {w} > branch_pool {c} 192 1"
MIXED = {
    "5b": (A, 192, 32), "5c": (A, 256, 64), "5d": (A, 288, 64), "6a": (B, 288, 0),
    "6b": (C, 768, 128), "6c": (C, 768, 160), "6d": (C, 768, 160), "6e": (C, 768, 192),
    "7a": (D, 768, 0), "7b": (E, 1280, "mean"), "7c": (E, 2048, "max"),
}  # fmt: skip
POOLS = {
    "mean": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "max": lambda x: F.max_pool2d(x, 3, 1, 1),
    "max/2": lambda x: F.max_pool2d(x, 3, 2),
}


class Layer(nn.Module):
    def __init__(self, c, features, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(c, features, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(features, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    def __init__(self, text, c, w):
        super().__init__()
        self.branches = text.format(c=c, w=w).split(" | ")
        for part in text.format(c=c, w=w).replace("|", ">").replace("+", ">").split(" > "):
            if part in POOLS:
                continue
            name, inputs, outputs, shape = part.split()
            sides, _, stride = shape.partition("/")
            kernel = tuple(map(int, sides.split("x"))) if "x" in sides else 2 * (int(sides),)
            padding = 0 if stride else tuple(side // 2 for side in kernel)
            layer = Layer(int(inputs), int(outputs), kernel, int(stride or 1), padding)
            self.add_module(name, layer)

    def forward(self, x):
        found = []
        for branch in self.branches:
            y = x
            for step in branch.split(" > "):
                ways = [part.split()[0] for part in step.split(" + ")]
                y = torch.cat([POOLS[w](y) if w in POOLS else getattr(self, w)(y) for w in ways], 1)
            found.append(y)
        return torch.cat(found, 1)


class Inception(nn.Module):
    def __init__(self, classes=1008):
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Layer(3, 32, 3, 2), Layer(32, 32, 3)
        self.Conv2d_2b_3x3 = Layer(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Layer(64, 80, 1), Layer(80, 192, 3)
        for name, built in MIXED.items():
            self.add_module(f"Mixed_{name}", Mixed(*built))
        self.fc = nn.Linear(2048, classes)

    def forward(self, x):
        """Images [b, 3, h, w] to features and logits, these without their bias."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in MIXED:
            x = getattr(self, f"Mixed_{name}")(x)
        features = x.mean((2, 3))
        return features, features @ self.fc.weight.T
