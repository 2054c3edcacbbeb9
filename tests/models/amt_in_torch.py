"""AMT-S in plain PyTorch, by the names of its public code: a reference that shares no code."""

import torch
import torch.nn.functional as F
from torch import nn

C = (20, 32, 44, 56)


def conv(c, features, k=3, stride=1):
    return nn.Conv2d(c, features, k, stride, k // 2)


def prelu(c, features, stride=1):
    return nn.Sequential(conv(c, features, 3, stride), nn.PReLU(features))


def two(c, hidden, features):
    return nn.Sequential(conv(c, hidden), nn.LeakyReLU(0.1), conv(hidden, features))


def scaled(x, scale):
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear")


def lookup(images, places, padding):
    """Values at places (x, y) [b, h, w, 2] of images [b, c, h, w]."""
    size = torch.tensor([images.shape[3] - 1, images.shape[2] - 1])
    return F.grid_sample(images, 2 * places / size - 1, padding_mode=padding, align_corners=True)


def grid(h, w):
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([x, y], -1).float()[None]


def warp(x, flow):
    return lookup(x, grid(*x.shape[2:]) + flow.permute(0, 2, 3, 1), "border")


class Bottleneck(nn.Module):
    def __init__(self, c, features, stride):
        super().__init__()
        inner = features // 4
        self.conv1, self.conv2 = conv(c, inner, 1), conv(inner, inner, 3, stride)
        self.conv3 = conv(inner, features, 1)
        self.downsample = nn.Sequential(conv(c, features, 1, stride)) if stride > 1 else None

    def forward(self, x):
        y = x
        for layer in (self.conv1, self.conv2, self.conv3):
            y = F.relu(F.instance_norm(layer(y)))
        return F.relu(y + (x if self.downsample is None else F.instance_norm(self.downsample(x))))


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = conv(3, 32, 7, 2), conv(96, 84, 1)
        for i, (c, features, stride) in enumerate([(32, 32, 1), (32, 64, 2), (64, 96, 2)], 1):
            blocks = Bottleneck(c, features, stride), Bottleneck(features, features, 1)
            self.add_module(f"layer{i}", nn.Sequential(*blocks))

    def forward(self, x):
        x = F.relu(F.instance_norm(self.conv1(x)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class SideBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1, self.conv3, self.conv5 = prelu(c, c), prelu(c, c), conv(c, c)
        self.conv2, self.conv4, self.prelu = prelu(20, 20), prelu(20, 20), nn.PReLU(c)

    def forward(self, x):
        y = self.conv1(x)
        y = self.conv3(torch.cat([y[:, :-20], self.conv2(y[:, -20:])], 1))
        y = self.conv5(torch.cat([y[:, :-20], self.conv4(y[:, -20:])], 1))
        return self.prelu(x + y)


class Decoder(nn.Module):
    def __init__(self, c, inner, features):
        super().__init__()
        up = nn.ConvTranspose2d(inner, features, 4, 2, 1)
        self.convblock = nn.Sequential(prelu(c, inner), SideBlock(inner), up)

    def forward(self, *x):
        return self.convblock(torch.cat(x, 1))


class Update(nn.Module):
    def __init__(self, channels, scale):
        super().__init__()
        self.scale = scale
        self.convc1, self.convf1, self.convf2 = conv(392, 64, 1), conv(4, 40, 7), conv(40, 20)
        self.conv, self.gru = conv(84, 68), two(72 + channels, 76, 76)
        self.feat_head, self.flow_head = two(76, 76, channels), two(76, 76, 4)

    def forward(self, state, flows, near):
        leaky = nn.LeakyReLU(0.1)
        moved = leaky(self.convf2(leaky(self.convf1(flows))))
        x = leaky(self.conv(torch.cat([leaky(self.convc1(near)), moved], 1)))
        x = self.gru(torch.cat([x, flows, scaled(state, 1 / self.scale)], 1))
        more, step = scaled(self.feat_head(x), self.scale), scaled(self.flow_head(x), self.scale)
        return more, self.scale * step


class Amt(nn.Module):
    def __init__(self):
        super().__init__()
        self.feat_encoder, self.encoder = Features(), nn.Module()
        for i, (c, features) in enumerate(zip((3, *C), C, strict=False), 1):
            level = nn.Sequential(prelu(c, features, 2), prelu(features, features))
            self.encoder.add_module(f"pyramid{i}", level)
        self.decoder4, self.decoder3 = Decoder(113, 112, 48), Decoder(136, 132, 36)
        self.decoder2, self.decoder1 = Decoder(100, 96, 24), Decoder(64, 60, 24)
        self.update4, self.update3, self.update2 = Update(44, 1), Update(32, 2), Update(20, 4)
        self.comb_block = nn.Sequential(conv(9, 18), nn.PReLU(18), conv(18, 3))

    def near(self, volume, places):
        """Correlations [b, l, h, w] of four levels, 7x7 around places; x runs slowest."""
        b, length, h, w = volume.shape
        volume, found = volume.reshape(b * length, 1, h, w), []
        steps = torch.stack(torch.meshgrid(*2 * [torch.arange(-3.0, 4.0)], indexing="ij"), -1)
        for level in range(4):
            around = places.reshape(b * length, 1, 1, 2) / 2**level + steps
            found.append(lookup(volume, around, "zeros").reshape(b, length, 49))
            volume = F.avg_pool2d(volume, 2)
        return torch.cat(found, -1).transpose(1, 2).reshape(b, 196, *places.shape[1:3])

    def corrected(self, state, flows, volumes, update):
        coarse = scaled(flows, 1 / update.scale) / update.scale
        start, moved = grid(*coarse.shape[2:]), 2 * coarse.permute(0, 2, 3, 1)
        ends = start + moved[..., 2:], start + moved[..., :2]
        near = torch.cat([self.near(v, e) for v, e in zip(volumes, ends, strict=True)], 1)
        more, step = update(state, coarse, near)
        return state + more, flows + step

    def forward(self, first, second):
        """Images [b, 3, h, w] in [0, 1] to the one in the middle."""
        mean = torch.cat([first, second], 2).mean((1, 2, 3), keepdim=True)
        ends = first - mean, second - mean
        a, b = (self.feat_encoder(x).flatten(2) for x in ends)
        shape = [n // 8 for n in first.shape[2:]]
        volume = a.transpose(1, 2) @ b / 84**0.5
        volumes = [v.unflatten(2, shape) for v in (volume, volume.transpose(1, 2))]
        seen, now = [], ends
        for level in self.encoder.children():
            now = [level(x) for x in now]
            seen.append(now)
        x = self.decoder4(*seen[3], torch.full_like(seen[3][0][:, :1], 0.5))
        state, flows = self.corrected(x[:, 4:], x[:, :4], volumes, self.update4)
        for decoder, update, at in (
            (self.decoder3, self.update3, 2), (self.decoder2, self.update2, 1)
        ):  # fmt: skip
            near = warp(seen[at][0], flows[:, :2]), warp(seen[at][1], flows[:, 2:])
            x = decoder(state, *near, flows)
            flows = x[:, :4] + 2 * scaled(flows, 2)
            state, flows = self.corrected(x[:, 4:], flows, volumes, update)
        near = warp(seen[0][0], flows[:, :2]), warp(seen[0][1], flows[:, 2:])
        x, flows = self.decoder1(state, *near, flows), 2 * scaled(flows, 2)
        drawn = []
        for i in range(3):
            to = [x[:, 6 * j + 2 * i :][:, :2] + flows[:, 2 * j :][:, :2] for j in (0, 1)]
            share = x[:, 12 + i :][:, :1].sigmoid()
            both = share * warp(ends[0], to[0]) + (1 - share) * warp(ends[1], to[1])
            drawn.append(both + mean + x[:, 15 + 3 * i :][:, :3])
        return (sum(drawn) / 3 + self.comb_block(torch.cat(drawn, 1))).clamp(0, 1)
