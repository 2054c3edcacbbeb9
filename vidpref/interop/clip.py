"""CLIP: which tensor of transformers is which parameter of `Clip`, and of `ClipVision` alone."""

from collections.abc import Iterable

from vidpref.interop.table import Rule, Table
from vidpref.models.clip.vision import ClipVision

# transformers 4, which the published files are from, wrote it before all names of an encoder
_PREFIX = "vision_model."
_BLOCKS = {
    "encoder.layers.{i}.layer_norm1": "blocks/norm1",
    "encoder.layers.{i}.layer_norm2": "blocks/norm2",
    "encoder.layers.{i}.self_attn.q_proj": "blocks/query",
    "encoder.layers.{i}.self_attn.k_proj": "blocks/key",
    "encoder.layers.{i}.self_attn.v_proj": "blocks/value",
    "encoder.layers.{i}.self_attn.out_proj": "blocks/out",
    "encoder.layers.{i}.mlp.fc1": "blocks/mlp_in",
    "encoder.layers.{i}.mlp.fc2": "blocks/mlp_out",
}
# Buffers of older files of a whole model: the numbers from 0 on.
COUNTED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def clip_table() -> Table:
    """Returns the table of `Clip`, by the names of `CLIPModel`."""
    text = (
        Rule("embeddings.token_embedding.weight", "embed/embedding", "embedding"),
        Rule("embeddings.position_embedding.weight", "positions", "embedding"),
        *_layers({**_BLOCKS, "final_layer_norm": "norm_out"}),
    )
    return (
        *_below(text, "text_model.", "text/"),
        *_below(_vision(), _PREFIX, "vision/"),
        *_layers({f"{_PREFIX}post_layernorm": "norm_out"}),
        Rule("visual_projection.weight", "image_projection/kernel", "linear"),
        Rule("text_projection.weight", "text_projection/kernel", "linear"),
        Rule("logit_scale", "logit_scale", "kept"),
    )


def clip_vision_table(names: Iterable[str]) -> Table:
    """Returns the table of the encoder.

    Args:
        names: names of the tensors of a checkpoint.
    """
    return _below(_vision(), _prefix(names), "")


def not_of_the_states(encoder: ClipVision, names: Iterable[str]) -> tuple[str, ...]:
    """Returns how the names begin of tensors that the states do not depend on.

    Args:
        encoder: the network.
        names: names of the tensors of a checkpoint.
    """
    prefix = _prefix(names)
    last = f"encoder.layers.{encoder.num_hidden_layers - 1}."
    return tuple(prefix + name for name in (last, "post_layernorm.", "embeddings.position_ids"))


def _vision() -> Table:
    return (
        Rule("embeddings.class_embedding", "whole", "vector"),
        Rule("embeddings.patch_embedding.weight", "patches/kernel", "conv"),
        Rule("embeddings.position_embedding.weight", "positions", "embedding"),
        *_layers({"pre_layrnorm": "norm_in", **_BLOCKS}),  # sic
    )


def _layers(names: dict[str, str]) -> Table:
    """The rules of norms and linear layers, each with a bias."""
    rules = []
    for torch, ours in names.items():
        weight = ("scale", "vector") if "norm" in torch else ("kernel", "linear")
        rules.append(Rule(f"{torch}.weight", f"{ours}/{weight[0]}", weight[1]))
        rules.append(Rule(f"{torch}.bias", f"{ours}/bias", "vector"))
    return tuple(rules)


def _below(table: Table, torch: str, ours: str) -> Table:
    return tuple(Rule(torch + rule.torch, ours + rule.ours, rule.kind) for rule in table)


def _prefix(names: Iterable[str]) -> str:
    return _PREFIX if any(name.startswith(_PREFIX) for name in names) else ""
