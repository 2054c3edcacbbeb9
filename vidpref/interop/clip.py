"""CLIP's vision transformer: which tensor of transformers is which parameter of `ClipVision`."""

from collections.abc import Iterable

from vidpref.interop.table import Rule, Table
from vidpref.models.clip.vision import ClipVision

# transformers 4, which the published files are from, wrote it before all names
_PREFIX = "vision_model."
_LAYERS = {
    "pre_layrnorm": "norm_in",  # sic
    "encoder.layers.{i}.layer_norm1": "blocks/norm1",
    "encoder.layers.{i}.layer_norm2": "blocks/norm2",
    "encoder.layers.{i}.self_attn.q_proj": "blocks/query",
    "encoder.layers.{i}.self_attn.k_proj": "blocks/key",
    "encoder.layers.{i}.self_attn.v_proj": "blocks/value",
    "encoder.layers.{i}.self_attn.out_proj": "blocks/out",
    "encoder.layers.{i}.mlp.fc1": "blocks/mlp_in",
    "encoder.layers.{i}.mlp.fc2": "blocks/mlp_out",
}


def clip_vision_table(names: Iterable[str]) -> Table:
    """Returns the table of the encoder.

    Args:
        names: names of the tensors of a checkpoint.
    """
    prefix = _prefix(names)
    rules = [
        Rule("embeddings.class_embedding", "whole", "vector"),
        Rule("embeddings.patch_embedding.weight", "patches/kernel", "conv"),
        Rule("embeddings.position_embedding.weight", "positions", "embedding"),
    ]
    for torch, ours in _LAYERS.items():
        norm = "norm" in torch
        weight = ("scale", "vector") if norm else ("kernel", "linear")
        rules.append(Rule(f"{torch}.weight", f"{ours}/{weight[0]}", weight[1]))
        rules.append(Rule(f"{torch}.bias", f"{ours}/bias", "vector"))
    return tuple(Rule(prefix + rule.torch, rule.ours, rule.kind) for rule in rules)


def not_of_the_states(encoder: ClipVision, names: Iterable[str]) -> tuple[str, ...]:
    """Returns how the names begin of tensors that the states do not depend on.

    Args:
        encoder: the network.
        names: names of the tensors of a checkpoint.
    """
    prefix = _prefix(names)
    last = f"encoder.layers.{encoder.num_hidden_layers - 1}."
    return tuple(prefix + name for name in (last, "post_layernorm.", "embeddings.position_ids"))


def _prefix(names: Iterable[str]) -> str:
    return _PREFIX if any(name.startswith(_PREFIX) for name in names) else ""
