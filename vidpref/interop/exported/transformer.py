"""The diffusion transformers: DiT, and VideoAlign's spatio-temporal one."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import NETWORKS, CrossAttention, SelfAttention, VideoNetwork, counted, sinusoidal


class TransformerBlock(nn.Module):
    """Attention in each frame (`spatial`), over the clip, to the text, then a perceptron.

    All but the attention to the text is modulated by adaLN-zero (Peebles and Xie).
    """

    def __init__(self, width, head_dim, mlp_ratio, cond_dim, spatial: bool, cross: bool):
        super().__init__()
        self.modulation = nn.Linear(cond_dim, (9 if spatial else 6) * width)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.spatial_attn = SelfAttention(width, head_dim) if spatial else None
        self.attn = SelfAttention(width, head_dim)
        self.cross_attn = CrossAttention(width, cond_dim, head_dim) if cross else None
        hidden = mlp_ratio * width
        gelu = nn.GELU(approximate="tanh")
        self.mlp = nn.Sequential(nn.Linear(width, hidden), gelu, nn.Linear(hidden, width))

    def forward(self, x, embedding, text, text_mask, frames: int) -> Tensor:
        width = x.shape[-1]
        modulation = iter(self.modulation(F.silu(embedding))[:, None].split(3 * width, dim=-1))

        def modulated(layer, x: Tensor) -> Tensor:
            shift, scale, gate = next(modulation).chunk(3, dim=-1)
            return x + gate * layer(self.norm(x) * (1 + scale) + shift)

        if self.spatial_attn is not None:
            x = modulated(lambda y: self.in_frames(y, frames), x)
        x = modulated(self.attn, x)
        if self.cross_attn is not None:
            x = x + self.cross_attn(self.norm(x), text, text_mask)
        return modulated(self.mlp, x)

    def in_frames(self, x: Tensor, frames: int) -> Tensor:
        rows = x.reshape(len(x) * frames, -1, x.shape[-1])
        return self.spatial_attn(rows).reshape(x.shape)


class VideoTransformer(VideoNetwork):
    """A transformer over tubelets: DiT, or with `spatial` VideoAlign's spatio-temporal DiT."""

    def __init__(
        self, *, width, layers, head_dim, mlp_ratio, cond_dim, spatial, cross=True, **shared
    ):
        super().__init__(cond_dim=cond_dim, **shared)
        self.patch_embed = nn.Linear(self.in_channels, width)
        sizes = width, head_dim, mlp_ratio, cond_dim, spatial, cross
        self.blocks = nn.ModuleList(TransformerBlock(*sizes) for _ in range(layers))
        self.modulation = nn.Linear(cond_dim, 2 * width)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.head = nn.Linear(width, self.out_channels)

    def forward(
        self, x, tau, text, text_mask, first_frame=None, low_res=None, low_res_tau=None
    ) -> Tensor:
        embedding, tokens = self.condition(tau, text, text_mask, low_res_tau)
        tubelets = self.inputs(x, first_frame, low_res)
        grid = tubelets.shape[2:]
        h = self.patch_embed(tubelets.flatten(2).transpose(1, 2))
        h = h + self.grid_positions(grid, h)
        for block in self.blocks:
            h = block(h, embedding, tokens, text_mask, grid[0])
        shift, scale = self.modulation(F.silu(embedding))[:, None].chunk(2, dim=-1)
        h = self.head(self.norm(h) * (1 + scale) + shift)
        return self.outputs(h.transpose(1, 2).unflatten(2, grid), first_frame, low_res)

    def grid_positions(self, grid: tuple[int, int, int], like: Tensor) -> Tensor:
        """Positions of the axes side by side [l, width]: t and h a third each, w the rest."""
        width = like.shape[-1]
        third = width // 3 // 2 * 2
        index = torch.meshgrid(*(counted(size, like) for size in grid), indexing="ij")
        dims = third, third, width - 2 * third
        axes = [sinusoidal(i.flatten(), dim) for i, dim in zip(index, dims, strict=True)]
        return torch.cat(axes, dim=-1).to(like.dtype)


NETWORKS["dit"] = functools.partial(VideoTransformer, spatial=False)
NETWORKS["st_dit"] = functools.partial(VideoTransformer, spatial=True)
