"""MUSIQ in plain PyTorch, by pyiqa's names: a reference that shares no code.

Unlike ours it fills the sequences of the two smaller scales up and hides what it filled them with.
"""

import torch
import torch.nn.functional as F
from torch import nn


class StdConv(nn.Conv2d):
    def __init__(self, c, features, k, stride=1):
        super().__init__(c, features, k, stride, bias=False)

    def forward(self, x):
        k, s = self.kernel_size[0], self.stride[0]
        more = [(-(-n // s) - 1) * s + k - n for n in reversed(x.shape[2:])]
        x = F.pad(x, [p for m in more for p in (m // 2, m - m // 2)])
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, w / (w.std((1, 2, 3), keepdim=True) + 1e-5), stride=s)


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        for name, (c, f, k) in {
            "1": (64, 64, 1), "2": (64, 64, 3), "3": (64, 256, 1), "_proj": (64, 256, 1)
        }.items():  # fmt: skip
            self.add_module(f"conv{name}", StdConv(c, f, k))
            self.add_module(f"gn{name}", nn.GroupNorm(32, f, eps=1e-4))

    def forward(self, x):
        y = F.relu(self.gn1(self.conv1(x)))
        y = self.gn3(self.conv3(F.relu(self.gn2(self.conv2(y)))))
        return F.relu(y + self.gn_proj(self.conv_proj(x)))


class Block(nn.Module):
    def __init__(self, width, hidden, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        names = ("query", "key", "value", "out")
        self.attention = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x, seen):
        b, n, width = x.shape
        y = self.norm1(x)
        q, k, v = (
            self.attention[name](y).reshape(b, n, self.heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        logits = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).masked_fill(
            ~(seen[:, None] & seen[None]), -1e3
        )
        y = (logits.softmax(-1) @ v).transpose(1, 2).reshape(b, n, width)
        x = x + self.attention["out"](y)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self, width, hidden, heads, layers):
        super().__init__()
        self.posembed_input, self.scaleembed_input = nn.Module(), nn.Module()
        self.posembed_input.position_emb = nn.Parameter(torch.randn(1, 100, width))
        self.scaleembed_input.scale_emb = nn.Parameter(torch.randn(3, width))
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        blocks = {f"encoderblock_{i}": Block(width, hidden, heads) for i in range(layers)}
        self.transformer = nn.ModuleDict(blocks)


class Musiq(nn.Module):
    def __init__(self, width=384, hidden=1152, heads=6, layers=14):
        super().__init__()
        self.conv_root, self.gn_root = StdConv(3, 64, 7, 2), nn.GroupNorm(32, 64, eps=1e-6)
        self.block1, self.embedding = Bottleneck(), nn.Linear(16384, width)
        self.transformer_encoder = Encoder(width, hidden, heads, layers)
        self.head = nn.Linear(width, 1)

    def forward(self, images):
        """Images [b, 3, h, w] in [0, 1] to scores [b]."""
        x, parts = images * 2 - 1, []
        for number, longer in enumerate((224, 384, None)):
            ratio = 1 if longer is None else longer / max(x.shape[2:])
            size = [round(n * ratio) for n in x.shape[2:]]
            shown = x if longer is None else F.interpolate(x, size, mode="bicubic")
            parts.append(self.scale(shown, number, longer and (longer // 32) ** 2))
        tokens, seen = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        encoder = self.transformer_encoder
        x = torch.cat([encoder.cls.expand(len(tokens), -1, -1), tokens], 1)
        seen = torch.cat([torch.tensor([True]), seen[0]])
        for block in encoder.transformer.values():
            x = block(x, seen)
        return self.head(encoder.encoder_norm(x)[:, 0])[:, 0]

    def scale(self, x, number, length):
        """Tokens of a scale, and which of them are no filling."""
        b, rows, columns = len(x), *(-(-n // 32) for n in x.shape[2:])
        more = [n * 32 - size for n, size in ((columns, x.shape[3]), (rows, x.shape[2]))]
        x = F.pad(x, [p for m in more for p in (m // 2, m - m // 2)])
        patches = F.unfold(x, 32, stride=32).transpose(1, 2).reshape(-1, 3, 32, 32)
        grid = torch.arange(10.0)[None, None]
        down, across = (F.interpolate(grid, n, mode="nearest")[0, 0] for n in (rows, columns))
        places = (down[:, None] * 10 + across).reshape(-1).long()
        count = rows * columns
        if length and count < length:  # zeros in pixels and places, as pyiqa has them
            patches = patches.reshape(b, count, 3, 32, 32)
            filling = torch.zeros(b, length - count, 3, 32, 32)
            patches = torch.cat([patches, filling], 1).reshape(-1, 3, 32, 32)
            places = torch.cat([places, torch.zeros(length - count).long()])
        y = F.max_pool2d(F.pad(F.relu(self.gn_root(self.conv_root(patches))), (0, 1, 0, 1)), 3, 2)
        y = self.block1(y).permute(0, 2, 3, 1).reshape(b, len(places), -1)
        encoder = self.transformer_encoder
        y = self.embedding(y) + encoder.posembed_input.position_emb[0, places]
        y = y + encoder.scaleembed_input.scale_emb[number]
        return y, (torch.arange(len(places)) < count)[None]
