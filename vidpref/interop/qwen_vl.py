"""Qwen-VL in transformers: which tensor is which parameter of `models.qwen_vl.network.QwenVL`."""

from collections.abc import Iterable

from vidpref.interop.lora.reading import Adaptable
from vidpref.interop.table import Rule, Table
from vidpref.models.qwen_vl.network import QwenVL

# How names begin: (of the decoder, of the vision tower). Files of Qwen2-VL and Qwen2.5-VL, and what
# transformers 5 saves of them, have the old ones; Qwen3-VL, and modules in memory, the new ones.
OLD, NEW = ("model.", "visual."), ("model.language_model.", "model.visual.")
_TEXT = {
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "value",
    "self_attn.o_proj": "out",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}
_PERCEPTRONS = {
    "quick_gelu": {"mlp.fc1": "mlp_in", "mlp.fc2": "mlp_out"},
    "silu": {"mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"},
    "gelu_pytorch_tanh": {"mlp.linear_fc1": "mlp_in", "mlp.linear_fc2": "mlp_out"},
}


def qwen_vl_table(module: QwenVL, spelling: tuple[str, str]) -> Table:
    """Returns the table of a model.

    Args:
        module: the network.
        spelling: `OLD` or `NEW`; see `spelling_of`.
    """
    text, vision = spelling
    head = Rule("lm_head.weight", "head/kernel", "linear")
    tied = module.config.text.tie_word_embeddings
    embedding = Rule(
        f"{text}embed_tokens.weight",
        "embed/embedding",
        "embedding",
        # some files hold the head of a tied model too; as in transformers it does not count
        tied="lm_head.weight" if tied else "",
    )
    rules = [
        embedding,
        *([] if tied else [head]),
        _scale(f"{text}norm", "text/norm"),
        *_decoder_block(module, f"{text}layers.{{i}}", "text/blocks"),
        *_vision(module, vision, "vision"),
    ]
    return tuple(rules)


def spelling_of(names: Iterable[str]) -> tuple[str, str]:
    """Returns how the names of a checkpoint's tensors begin.

    Raises:
        ValueError: names of no Qwen-VL.
    """
    names = list(names)
    for spelling in (NEW, OLD):
        if all(any(name.startswith(start) for name in names) for start in spelling):
            return spelling
    shown = ", ".join(names[:3])
    raise ValueError(
        f"no tensors of a Qwen-VL model: wanted names that begin with {' and '.join(OLD)} or with "
        f"{' and '.join(NEW)}, found {shown or 'none'}"
    )


def written_spelling(module: QwenVL) -> tuple[str, str]:
    """Returns how `save_pretrained` of transformers begins the names of a model's tensors."""
    return NEW if module.config.family == "qwen3_vl" else OLD


def _decoder_block(module: QwenVL, torch: str, ours: str) -> list[Rule]:
    config = module.config.text
    rules = [
        _scale(f"{torch}.input_layernorm", f"{ours}/attention_norm"),
        _scale(f"{torch}.post_attention_layernorm", f"{ours}/mlp_norm"),
    ]
    for theirs, name in _TEXT.items():
        bias = config.attention_bias and name in ("query", "key", "value")
        rules += _layer(f"{torch}.{theirs}", f"{ours}/{name}", bias=bias)
    if config.qk_norm:
        rules.append(_scale(f"{torch}.self_attn.q_norm", f"{ours}/query_norm"))
        rules.append(_scale(f"{torch}.self_attn.k_norm", f"{ours}/key_norm"))
    return rules


def _vision(module: QwenVL, torch: str, ours: str) -> list[Rule]:
    config = module.config.vision
    rules = [Rule(f"{torch}patch_embed.proj.weight", f"{ours}/patches", "conv")]
    if config.patch_bias:
        rules.append(Rule(f"{torch}patch_embed.proj.bias", f"{ours}/patches_bias", "vector"))
    if config.num_position_embeddings is not None:
        rules.append(Rule(f"{torch}pos_embed.weight", f"{ours}/positions", "embedding"))
    block, stack = f"{torch}blocks.{{i}}", f"{ours}/blocks"
    bias = config.norm == "layer"
    for name in ("norm1", "norm2"):
        rules += _norm(f"{block}.{name}", f"{stack}/{name}", bias=bias)
    layers = {"attn.qkv": "qkv", "attn.proj": "out", **_PERCEPTRONS[config.activation]}
    for theirs, name in layers.items():
        rules += _layer(f"{block}.{theirs}", f"{stack}/{name}")
    names = ("ln_q", "mlp.0", "mlp.2")
    if module.config.family == "qwen3_vl":
        names = ("norm", "linear_fc1", "linear_fc2")
    mergers = {f"{torch}merger": f"{ours}/merger"}
    for i in range(len(config.deepstack)):
        mergers[f"{torch}deepstack_merger_list.{i}"] = f"{ours}/deepstack{i}"
    for theirs, own in mergers.items():
        rules += _norm(f"{theirs}.{names[0]}", f"{own}/norm", bias=bias)
        rules += _layer(f"{theirs}.{names[1]}", f"{own}/mlp_in")
        rules += _layer(f"{theirs}.{names[2]}", f"{own}/mlp_out")
    return rules


def _layer(torch: str, ours: str, *, bias: bool = True) -> list[Rule]:
    rules = [Rule(f"{torch}.weight", f"{ours}/kernel", "linear")]
    return [*rules, Rule(f"{torch}.bias", f"{ours}/bias", "vector")] if bias else rules


def _norm(torch: str, ours: str, *, bias: bool) -> list[Rule]:
    rules = [_scale(torch, ours)]
    return [*rules, Rule(f"{torch}.bias", f"{ours}/bias", "vector")] if bias else rules


def _scale(torch: str, ours: str) -> Rule:
    return Rule(f"{torch}.weight", f"{ours}/scale", "vector")


def adaptable(module: QwenVL) -> Adaptable:
    """Returns what LoRA files are read for: the linear layers, by old and by new names.

    Files that were trained under transformers 4 have the old ones, which PEFT would pass over.
    """
    table = qwen_vl_table(module, NEW)
    names = zip(qwen_vl_table(module, OLD), table, strict=True)
    original = {
        old.torch.removesuffix(".weight"): new.torch.removesuffix(".weight")
        for old, new in names
        if old.torch != new.torch
    }
    return Adaptable(
        table,
        original,
        passes_over=False,
        reads="LoRA of the linear layers of a Qwen-VL model. Merge other adapters in the program "
        "that made them, save the whole model, and give its folder.",
    )
