"""CogVideoX in diffusers: its pipelines, and where they have the weights of both networks."""

from collections.abc import Iterator

from vidpref.interop.family import Family
from vidpref.interop.table import Rule, Table
from vidpref.models.cogvideox.network import CogVideoX
from vidpref.models.cogvideox.vae import CogVideoXVAE


def transformer_table(model: CogVideoX) -> Table:
    """Returns the tensors of a `CogVideoXTransformer3DModel` of the same config."""
    block, ours = "transformer_blocks.{i}.", "blocks/"
    rules = [
        *_weights("patch_embed.proj", "patch", "conv", bias=model.patch_bias),
        *_weights("patch_embed.text_proj", "text", "linear"),
        *_weights("time_embedding.linear_1", "time_in", "linear"),
        *_weights("time_embedding.linear_2", "time_out", "linear"),
        *_weights(block + "norm1.linear", ours + "attention_modulation", "linear"),
        *_weights(block + "norm1.norm", ours + "attention_norm", "vector"),
        *_weights(block + "attn1.norm_q", ours + "query_norm", "vector"),
        *_weights(block + "attn1.norm_k", ours + "key_norm", "vector"),
        *_weights(block + "attn1.to_q", ours + "query", "linear", bias=model.attention_bias),
        *_weights(block + "attn1.to_k", ours + "key", "linear", bias=model.attention_bias),
        *_weights(block + "attn1.to_v", ours + "value", "linear", bias=model.attention_bias),
        *_weights(block + "attn1.to_out.0", ours + "out", "linear"),
        *_weights(block + "norm2.linear", ours + "mlp_modulation", "linear"),
        *_weights(block + "norm2.norm", ours + "mlp_norm", "vector"),
        *_weights(block + "ff.net.0.proj", ours + "mlp_in", "linear"),
        *_weights(block + "ff.net.2", ours + "mlp_out", "linear"),
        *_weights("norm_final", "final_norm", "vector"),
        *_weights("norm_out.linear", "out_modulation", "linear"),
        *_weights("norm_out.norm", "out_norm", "vector"),
        *_weights("proj_out", "head", "linear"),
    ]
    if model.use_learned_positional_embeddings:
        rules.append(Rule("patch_embed.pos_embedding", "positions", "kept"))
    return tuple(rules)


def vae_table(model: CogVideoXVAE) -> Table:
    """Returns the tensors of an `AutoencoderKLCogVideoX` of the same config."""
    channels = tuple(model.block_out_channels)
    return (
        *_coder("encoder", "down", channels, model.layers_per_block, spatial=False),
        *_coder("decoder", "up", channels[::-1], model.layers_per_block + 1, spatial=True),
    )


def _coder(
    coder: str, way: str, channels: tuple[int, ...], blocks: int, *, spatial: bool
) -> Iterator[Rule]:
    yield from _weights(f"{coder}.conv_in.conv", f"{coder}/conv_in", "conv")
    before = channels[0]
    for level, after in enumerate(channels):
        torch, ours = f"{coder}.{way}_blocks.{level}.", f"{coder}/{way}_{level}_"
        for i in range(blocks):
            shortcut = i == 0 and before != after
            yield from _resnet(f"{torch}resnets.{i}.", f"{ours}{i}/", shortcut, spatial)
        if level < len(channels) - 1:
            yield from _weights(f"{torch}{way}samplers.0.conv", f"{ours}conv", "conv")
        before = after
    for i in range(2):
        torch, ours = f"{coder}.mid_block.resnets.{i}.", f"{coder}/mid_{i}/"
        yield from _resnet(torch, ours, False, spatial)
    yield from _norm(f"{coder}.norm_out", f"{coder}/norm", spatial)
    yield from _weights(f"{coder}.conv_out.conv", f"{coder}/conv_out", "conv")


def _resnet(torch: str, ours: str, shortcut: bool, spatial: bool) -> Iterator[Rule]:
    for i in (1, 2):
        yield from _norm(f"{torch}norm{i}", f"{ours}norm{i}", spatial)
        yield from _weights(f"{torch}conv{i}.conv", f"{ours}conv{i}", "conv")
    if shortcut:
        yield from _weights(f"{torch}conv_shortcut", f"{ours}shortcut", "conv")


def _norm(torch: str, ours: str, spatial: bool) -> Iterator[Rule]:
    if not spatial:
        yield from _weights(torch, ours, "vector")
        return
    yield from _weights(f"{torch}.norm_layer", f"{ours}/norm", "vector")
    yield from _weights(f"{torch}.conv_y.conv", f"{ours}/scale", "conv")
    yield from _weights(f"{torch}.conv_b.conv", f"{ours}/shift", "conv")


def _weights(torch: str, ours: str, kind: str, *, bias: bool = True) -> Iterator[Rule]:
    """A layer's weight, and its bias; the weight of a norm ("vector") is its scale."""
    name = "scale" if kind == "vector" else "kernel"
    yield Rule(f"{torch}.weight", f"{ours}/{name}", kind)
    if bias:
        yield Rule(f"{torch}.bias", f"{ours}/bias", "vector")


FAMILY = Family(
    name="cogvideox",
    pipelines={
        "CogVideoXPipeline": "ipo_kto:cogvideox_2b",
        "CogVideoXImageToVideoPipeline": "realdpo:cogvideox_5b_i2v",
    },
    classes={"transformer": "CogVideoXTransformer3DModel", "vae": "AutoencoderKLCogVideoX"},
    autoencoder=CogVideoXVAE,
    transformer_table=transformer_table,
    autoencoder_table=vae_table,
    text={"padding": "seen", "clean": False},
    text_length="max_text_seq_length",
)
