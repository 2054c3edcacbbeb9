"""The 3D-UNet of AIF."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (
    NETWORKS,
    CrossAttention,
    SelfAttention,
    VideoNetwork,
    channels_to_space,
    space_to_channels,
)


class FrameConv(nn.Conv2d):
    """A 3x3 convolution of every frame of [b, c, t, h, w]."""

    def __init__(self, channels: int, features: int):
        super().__init__(channels, features, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        frames = super().forward(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class Pointwise(nn.Linear):
    """A linear layer over the channels of [b, c, t, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ResnetBlock(nn.Module):
    def __init__(self, channels: int, features: int, groups: int, cond_dim: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps=1e-5)
        self.conv1 = FrameConv(channels, features)
        self.modulation = nn.Linear(cond_dim, 2 * features)
        self.norm2 = nn.GroupNorm(groups, features, eps=1e-5)
        self.conv2 = FrameConv(features, features)
        self.shortcut = nn.Identity()
        if channels != features:
            self.shortcut = Pointwise(channels, features)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(F.silu(embedding))[..., None, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.shortcut(x) + h


class UNetBlock(nn.Module):
    """Residual convolutions, then attention over space, time and text, where a level has them."""

    def __init__(self, channels, features, spatial, temporal, cross, *, head_dim, groups, cond_dim):
        super().__init__()
        self.resnet = ResnetBlock(channels, features, groups, cond_dim)
        self.spatial, self.temporal, self.cross = spatial, temporal, cross
        if spatial:
            self.spatial_norm = nn.GroupNorm(groups, features, eps=1e-5)
            self.spatial_attn = SelfAttention(features, head_dim)
        if temporal:
            self.temporal_norm = nn.GroupNorm(groups, features, eps=1e-5)
            self.temporal_attn = SelfAttention(features, head_dim, positions=True)
        if cross:
            self.cross_norm = nn.GroupNorm(groups, features, eps=1e-5)
            self.cross_attn = CrossAttention(features, cond_dim, head_dim)

    def forward(self, x: Tensor, embedding: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        x = self.resnet(x, embedding)
        b, _, t, h, w = x.shape
        if self.spatial:
            y = self.spatial_norm(x).permute(0, 2, 3, 4, 1).reshape(b * t, h * w, -1)
            x = x + self.spatial_attn(y).reshape(b, t, h, w, -1).permute(0, 4, 1, 2, 3)
        if self.temporal:
            y = self.temporal_norm(x).permute(0, 3, 4, 2, 1).reshape(b * h * w, t, -1)
            x = x + self.temporal_attn(y).reshape(b, h, w, t, -1).permute(0, 4, 3, 1, 2)
        if self.cross:
            y = self.cross_norm(x).flatten(2).transpose(1, 2)
            x = x + self.cross_attn(y, text, text_mask).transpose(1, 2).reshape(x.shape)
        return x


class UNet3D(VideoNetwork):
    """AIF's 3D-UNet; the deepest level is one row of blocks without skips."""

    def __init__(
        self, *, features, blocks, spatial, temporal, cross, head_dim, cond_dim, groups, **shared
    ):
        super().__init__(cond_dim=cond_dim, **shared)
        widths = {"head_dim": head_dim, "groups": groups, "cond_dim": cond_dim}

        def level(i: int, channels: int) -> nn.ModuleList:
            attention = spatial[i], temporal[i], cross[i]
            block = (
                UNetBlock(channels, features[i], *attention, **widths) for _ in range(blocks[i])
            )
            return nn.ModuleList(block)

        upper = range(len(features) - 1)
        self.conv_in = FrameConv(self.in_channels, features[0])
        self.down_blocks = nn.ModuleList(level(i, features[i]) for i in upper)
        self.downsample = nn.ModuleList(Pointwise(4 * features[i], features[i + 1]) for i in upper)
        self.mid_blocks = level(-1, features[-1])
        self.upsample = nn.ModuleList(Pointwise(features[i + 1], 4 * features[i]) for i in upper)
        self.up_blocks = nn.ModuleList(level(i, 2 * features[i]) for i in upper)
        self.norm_out = nn.GroupNorm(groups, features[0], eps=1e-5)
        self.conv_out = FrameConv(features[0], self.out_channels)

    def forward(
        self, x, tau, text, text_mask, first_frame=None, low_res=None, low_res_tau=None
    ) -> Tensor:
        embedding, tokens = self.condition(tau, text, text_mask, low_res_tau)
        condition = embedding, tokens, text_mask
        h = self.conv_in(self.inputs(x, first_frame, low_res))
        skips = []
        for blocks, downsample in zip(self.down_blocks, self.downsample, strict=True):
            for block in blocks:
                h = block(h, *condition)
                skips.append(h)
            h = downsample(space_to_channels(h, (1, 2, 2)))
        for block in self.mid_blocks:
            h = block(h, *condition)
        for blocks, upsample in zip(self.up_blocks[::-1], self.upsample[::-1], strict=True):
            h = channels_to_space(upsample(h), (1, 2, 2))
            for block in blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), *condition)
        return self.outputs(self.conv_out(F.silu(self.norm_out(h))), first_frame, low_res)


NETWORKS["unet3d"] = UNet3D
