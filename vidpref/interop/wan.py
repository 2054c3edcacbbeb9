"""Wan2.1 in diffusers: its pipelines, `WanTransformer3DModel` and `AutoencoderKLWan`."""

from vidpref.interop.family import Family
from vidpref.interop.table import Rule, Table
from vidpref.models.wan.network import Wan
from vidpref.models.wan.vae import WanVAE


def transformer_table(module: Wan) -> Table:
    """Returns the table of a transformer, which has fewer rules for text to video.

    Args:
        module: the network.
    """
    embedder = "condition_embedder"
    rules = [
        *_layer("patch_embedding", "patch_embedding", "conv"),
        *_layer(f"{embedder}.time_embedder.linear_1", "time/first"),
        *_layer(f"{embedder}.time_embedder.linear_2", "time/second"),
        *_layer(f"{embedder}.time_proj", "time_projection"),
        *_layer(f"{embedder}.text_embedder.linear_1", "text_in"),
        *_layer(f"{embedder}.text_embedder.linear_2", "text_out"),
        *_attention("blocks.{i}.attn1", "blocks/self"),
        *_attention("blocks.{i}.attn2", "blocks/cross"),
        *_layer("blocks.{i}.ffn.net.0.proj", "blocks/mlp_in"),
        *_layer("blocks.{i}.ffn.net.2", "blocks/mlp_out"),
        Rule("blocks.{i}.scale_shift_table", "blocks/scale_shift_table", "kept"),
        Rule("scale_shift_table", "scale_shift_table", "kept"),
        *_layer("proj_out", "head"),
    ]
    if module.cross_attn_norm:
        rules += _norm("blocks.{i}.norm2", "blocks/cross_norm")
    if module.image_dim is not None:
        embedder += ".image_embedder"
        rules += [
            *_norm(f"{embedder}.norm1", "image/norm_in"),
            *_layer(f"{embedder}.ff.net.0.proj", "image/first"),
            *_layer(f"{embedder}.ff.net.2", "image/second"),
            *_norm(f"{embedder}.norm2", "image/norm_out"),
            *_layer("blocks.{i}.attn2.add_k_proj", "blocks/cross/image_key"),
            *_layer("blocks.{i}.attn2.add_v_proj", "blocks/cross/image_value"),
            _scale("blocks.{i}.attn2.norm_added_k", "blocks/cross/image_key_norm"),
        ]
    return tuple(rules)


def vae_table(module: WanVAE) -> Table:
    """Returns the table of an autoencoder.

    Args:
        module: the network.
    """
    rules = [*_conv("quant_conv", "quant"), *_conv("post_quant_conv", "post_quant")]
    for network in ("encoder", "decoder"):
        for name in ("conv_in", "conv_out"):
            rules += _conv(f"{network}.{name}", f"{network}/{name}")
        rules.append(_gamma(f"{network}.norm_out", f"{network}/norm_out"))
        middle, ours = f"{network}.mid_block", f"{network}/middle"
        rules += [
            *_residual(f"{middle}.resnets.0", f"{ours}/first", shortcut=False),
            *_residual(f"{middle}.resnets.1", f"{ours}/second", shortcut=False),
            _gamma(f"{middle}.attentions.0.norm", f"{ours}/attention/norm"),
            *_conv(f"{middle}.attentions.0.to_qkv", f"{ours}/attention/qkv"),
            *_conv(f"{middle}.attentions.0.proj", f"{ours}/attention/out"),
        ]
    levels, last = module.dim_mult, len(module.dim_mult) - 1

    number, before = 0, 1  # the encoder's layers are numbered across the levels
    for level, multiple in enumerate(levels):
        for i in range(module.num_res_blocks):
            torch, ours = f"encoder.down_blocks.{number}", f"encoder/level{level}_block{i}"
            rules += _residual(torch, ours, shortcut=before != multiple)
            number, before = number + 1, multiple
        if level < last:
            torch, ours = f"encoder.down_blocks.{number}", f"encoder/level{level}_sample"
            rules += _sample(torch, ours, time=module.temperal_downsample[level])
            number += 1

    before = levels[-1]
    for level, multiple in enumerate(reversed(levels)):
        torch, ours = f"decoder.up_blocks.{level}", f"decoder/level{level}"
        for i in range(module.num_res_blocks + 1):
            shortcut = before != multiple
            rules += _residual(f"{torch}.resnets.{i}", f"{ours}_block{i}", shortcut=shortcut)
            before = multiple
        if level < last:
            time = module.temperal_downsample[last - 1 - level]
            rules += _sample(f"{torch}.upsamplers.0", f"{ours}_sample", time=time)
            before = multiple / 2
    return tuple(rules)


def _layer(torch: str, ours: str, kind: str = "linear") -> tuple[Rule, Rule]:
    weight = Rule(f"{torch}.weight", f"{ours}/kernel", kind)
    return weight, Rule(f"{torch}.bias", f"{ours}/bias", "vector")


def _conv(torch: str, ours: str) -> tuple[Rule, Rule]:
    return _layer(torch, ours, "conv")


def _norm(torch: str, ours: str) -> tuple[Rule, Rule]:
    return _scale(torch, ours), Rule(f"{torch}.bias", f"{ours}/bias", "vector")


def _scale(torch: str, ours: str) -> Rule:
    return Rule(f"{torch}.weight", f"{ours}/scale", "vector")


def _gamma(torch: str, ours: str) -> Rule:
    # [c, 1, 1] and [c, 1, 1, 1], which become [1, 1, c] and [1, 1, 1, c]
    return Rule(f"{torch}.gamma", f"{ours}/gamma", "conv")


def _attention(torch: str, ours: str) -> list[Rule]:
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "out"}
    rules = [rule for a, b in names.items() for rule in _layer(f"{torch}.{a}", f"{ours}/{b}")]
    norms = {"norm_q": "query_norm", "norm_k": "key_norm"}
    return rules + [_scale(f"{torch}.{a}", f"{ours}/{b}") for a, b in norms.items()]


def _residual(torch: str, ours: str, *, shortcut: bool) -> list[Rule]:
    rules = []
    for i in (1, 2):
        rules.append(_gamma(f"{torch}.norm{i}", f"{ours}/norm{i}"))
        rules += _conv(f"{torch}.conv{i}", f"{ours}/conv{i}")
    return rules + list(_conv(f"{torch}.conv_shortcut", f"{ours}/shortcut") if shortcut else ())


def _sample(torch: str, ours: str, *, time: bool) -> list[Rule]:
    rules = list(_conv(f"{torch}.resample.1", f"{ours}/space"))
    return rules + list(_conv(f"{torch}.time_conv", f"{ours}/time") if time else ())


def _original() -> dict[str, str]:
    """Layers of the Wan repository (`wan/modules/model.py`) in diffusers."""
    names = {
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
        "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
        "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
        "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
        "head.head": "proj_out",
        "blocks.{i}.ffn.0": "blocks.{i}.ffn.net.0.proj",
        "blocks.{i}.ffn.2": "blocks.{i}.ffn.net.2",
        "blocks.{i}.norm3": "blocks.{i}.norm2",
    }
    layers = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
    layers |= {"norm_q": "norm_q", "norm_k": "norm_k"}
    of_image = {"k_img": "add_k_proj", "v_img": "add_v_proj", "norm_k_img": "norm_added_k"}
    for theirs, ours, parts in (
        ("self_attn", "attn1", layers),
        ("cross_attn", "attn2", layers | of_image),
    ):
        names |= {
            f"blocks.{{i}}.{theirs}.{a}": f"blocks.{{i}}.{ours}.{b}" for a, b in parts.items()
        }
    return names


FAMILY = Family(
    name="wan",
    pipelines={
        "WanPipeline": "flow_dpo:wan2_1_1_3b",
        "WanImageToVideoPipeline": "flow_dpo:wan2_1_i2v_14b",
    },
    classes={"transformer": "WanTransformer3DModel", "vae": "AutoencoderKLWan"},
    autoencoder=WanVAE,
    transformer_table=transformer_table,
    autoencoder_table=vae_table,
    text={"length": 512, "padding": "hidden", "clean": True},
    original=_original(),
)
