"""The networks of this project as the PyTorch modules in `exported` name their tensors."""

import flax.linen as nn

from vidpref.interop.table import Rule, Table
from vidpref.models.dit.blocks import VideoTransformer
from vidpref.models.dit.network import DiT
from vidpref.models.dit.spatio_temporal import STDiT
from vidpref.models.unet3d.network import UNet3D

NETWORKS: dict[str, type[nn.Module]] = {"unet3d": UNet3D, "dit": DiT, "st_dit": STDiT}


def network_table(module: nn.Module) -> Table:
    """Returns the table of a network.

    Args:
        module: one of `NETWORKS`.
    """
    rules = _unet(module) if isinstance(module, UNet3D) else _transformer(module)
    return tuple(_condition(module) + rules)


def _condition(module: nn.Module) -> list[Rule]:
    rules = [
        *_norm("condition.text_norm", "condition/text/norm"),
        *_layer("condition.text_proj", "condition/text/projection"),
        *_layer("condition.pooled_proj", "condition/pooled_text"),
    ]
    for name in ("time", "low_res_time") if module.low_res else ("time",):
        rules += _layer(f"condition.{name}_embed.0", f"condition/{name}/first")
        rules += _layer(f"condition.{name}_embed.2", f"condition/{name}/second")
    return rules


def _unet(module: UNet3D) -> list[Rule]:
    rules = [*_layer("conv_in", "stem", "conv")]
    last = len(module.features) - 1
    for i in range(last):
        rules += _unet_blocks(f"down_blocks.{i}", f"down{i}", module, i)
        rules += _layer(f"downsample.{i}", f"downsample{i}")
        rules += _layer(f"upsample.{i}", f"upsample{i}")
        rules += _unet_blocks(f"up_blocks.{i}", f"up{i}", module, i)
        rules += _layer(f"up_blocks.{i}.{{i}}.resnet.shortcut", f"up{i}/residual/shortcut")
    rules += _unet_blocks("mid_blocks", "middle", module, last)
    return [*rules, *_norm("norm_out", "norm"), *_layer("conv_out", "head", "conv")]


def _unet_blocks(torch: str, ours: str, module: UNet3D, level: int) -> list[Rule]:
    torch += ".{i}"
    rules = [*_layer(f"{torch}.resnet.modulation", f"{ours}/residual/modulation")]
    for number, name in ((1, "in"), (2, "out")):
        rules += _norm(f"{torch}.resnet.norm{number}", f"{ours}/residual/norm_{name}")
        rules += _layer(f"{torch}.resnet.conv{number}", f"{ours}/residual/conv_{name}", "conv")
    for name in ("spatial", "temporal", "cross"):
        if getattr(module, name)[level]:
            rules += _norm(f"{torch}.{name}_norm", f"{ours}/{name}_norm")
            rules += _attention(f"{torch}.{name}_attn", f"{ours}/{name}", cross=name == "cross")
    return rules


def _transformer(module: VideoTransformer) -> list[Rule]:
    rules = [
        *_layer("patch_embed", "stem"),
        *_layer("blocks.{i}.modulation", "blocks/modulation"),
        *_layer("blocks.{i}.mlp.0", "blocks/mlp_in"),
        *_layer("blocks.{i}.mlp.2", "blocks/mlp_out"),
        *_layer("modulation", "modulation"),
        *_layer("head", "head"),
    ]
    if isinstance(module, STDiT):
        rules += _attention("blocks.{i}.spatial_attn", "blocks/spatial")
        rules += _attention("blocks.{i}.attn", "blocks/full")
    else:
        rules += _attention("blocks.{i}.attn", "blocks/self")
    if getattr(module, "cross", True):
        rules += _attention("blocks.{i}.cross_attn", "blocks/cross", cross=True)
    return rules


def _attention(torch: str, ours: str, *, cross: bool = False) -> list[Rule]:
    names = {"q": "query", "kv": "key_value"} if cross else {"qkv": "qkv"}
    names |= {"proj": "out"}
    return [rule for a, b in names.items() for rule in _layer(f"{torch}.{a}", f"{ours}/{b}")]


def _layer(torch: str, ours: str, kind: str = "linear") -> tuple[Rule, Rule]:
    weight = Rule(f"{torch}.weight", f"{ours}/kernel", kind)
    return weight, Rule(f"{torch}.bias", f"{ours}/bias", "vector")


def _norm(torch: str, ours: str) -> tuple[Rule, Rule]:
    weight = Rule(f"{torch}.weight", f"{ours}/scale", "vector")
    return weight, Rule(f"{torch}.bias", f"{ours}/bias", "vector")
