"""What the networks share: embeddings, attention, inputs and outputs."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NETWORKS: dict[str, Callable[..., "VideoNetwork"]] = {}  # by the name in config.json


def sinusoidal(positions: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of geometric frequencies 1 to 1/10000: [n] -> [n, dim]."""
    half = dim // 2
    index = torch.arange(half, device=positions.device, dtype=torch.float32)
    angles = positions[:, None] * torch.exp(index * (-math.log(10_000.0) / half))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def counted(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device, dtype=torch.float32)


def space_to_channels(x: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Moves patches (t, h, w) of [b, c, t, h, w] into channels, in the order (t, h, w, c)."""
    (b, c, t, h, w), (pt, ph, pw) = x.shape, patch
    x = x.reshape(b, c, t // pt, pt, h // ph, ph, w // pw, pw)
    return x.permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(b, -1, t // pt, h // ph, w // pw)


def channels_to_space(x: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """The inverse of `space_to_channels`."""
    (b, _, t, h, w), (pt, ph, pw) = x.shape, patch
    x = x.reshape(b, pt, ph, pw, -1, t, h, w).permute(0, 4, 5, 1, 6, 2, 7, 3)
    return x.reshape(b, -1, t * pt, h * ph, w * pw)


def attend(q: Tensor, k: Tensor, v: Tensor, head_dim: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention of [b, l, c] to [b, m, c]; `mask` [b, 1, 1, m] is True where it sees."""
    q, k, v = (x.unflatten(-1, (-1, head_dim)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention over the second axis of [b, l, c]; with `positions`, inputs are told theirs."""

    def __init__(self, width: int, head_dim: int, positions: bool = False):
        super().__init__()
        self.head_dim, self.positions = head_dim, positions
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.positions:
            x = x + sinusoidal(counted(x.shape[1], x), x.shape[-1]).to(x.dtype)
        return self.proj(attend(*self.qkv(x).chunk(3, dim=-1), self.head_dim))


class CrossAttention(nn.Module):
    """Attention of [b, l, c] to text tokens [b, m, d]; without a real token it attends to none."""

    def __init__(self, width: int, text_width: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.q, self.kv = nn.Linear(width, width), nn.Linear(text_width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        some = text_mask.any(dim=1)
        mask = (text_mask | ~some[:, None])[:, None, None]  # a softmax over nothing would be NaN
        x = attend(self.q(x), *self.kv(text).chunk(2, dim=-1), self.head_dim, mask)
        return self.proj(x * some[:, None, None])


class TimeEmbedding(nn.Sequential):
    """A diffusion time as a vector: [b] -> [b, d]."""

    def __init__(self, width: int):
        super().__init__(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, tau: Tensor) -> Tensor:
        return super().forward(sinusoidal(tau.float() * 1000.0, 256).to(self[0].weight.dtype))


class ConditionEmbedding(nn.Module):
    """The vector [b, d] that conditions every block, and text tokens [b, l, d] to attend to."""

    def __init__(self, text_dim: int, width: int, low_res: bool):
        super().__init__()
        self.time_embed = TimeEmbedding(width)
        self.low_res_time_embed = TimeEmbedding(width) if low_res else None
        self.text_norm = nn.LayerNorm(text_dim, eps=1e-6)
        self.text_proj = nn.Linear(text_dim, width)
        self.pooled_proj = nn.Linear(width, width)

    def forward(self, tau, text, text_mask, low_res_tau) -> tuple[Tensor, Tensor]:
        tokens = self.text_proj(self.text_norm(text))
        tokens = tokens + sinusoidal(counted(text.shape[1], text), tokens.shape[-1]).to(text.dtype)
        real = text_mask[..., None].to(tokens.dtype)
        pooled = (F.silu(tokens) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1.0)
        vector = self.time_embed(tau) + self.pooled_proj(pooled)
        if self.low_res_time_embed is not None:
            none = torch.zeros_like(tau)
            vector = vector + self.low_res_time_embed(none if low_res_tau is None else low_res_tau)
        return vector, tokens


class VideoNetwork(nn.Module):
    """What the networks share: their inputs, their condition, and what the output is added to."""

    def __init__(
        self, channels, text_dim, patch, cond_dim, first_frame=True, low_res=False, residual=""
    ):
        super().__init__()
        self.patch, self.residual = tuple(patch), residual
        self.out_channels = channels * math.prod(patch)
        still = channels * patch[1] * patch[2]
        self.in_channels = self.out_channels * (1 + low_res) + still * first_frame
        self.condition = ConditionEmbedding(text_dim, cond_dim, low_res)

    def inputs(self, x: Tensor, first_frame: Tensor | None, low_res: Tensor | None) -> Tensor:
        """The first layer's channels, patches moved into them: clip, first frame, enlarged clip."""
        parts = [space_to_channels(x, self.patch)]
        if first_frame is not None:
            still = space_to_channels(first_frame[:, :, None], (1, *self.patch[1:]))
            parts.append(still.expand(-1, -1, parts[0].shape[2], -1, -1))
        if low_res is not None:
            parts.append(space_to_channels(enlarge(low_res, x.shape[-2:]), self.patch))
        return torch.cat(parts, dim=1)

    def outputs(self, y: Tensor, first_frame: Tensor | None, low_res: Tensor | None) -> Tensor:
        """The clip of the last layer's channels."""
        y = channels_to_space(y, self.patch)
        if self.residual == "first_frame":
            return y + first_frame[:, :, None]
        return y + enlarge(low_res, y.shape[-2:]) if self.residual == "low_res" else y


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarges the frames of [b, c, t, h, w] bilinearly."""
    return F.interpolate(x, (x.shape[2], *size), mode="trilinear")
