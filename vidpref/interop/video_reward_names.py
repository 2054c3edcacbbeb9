"""Names of the weights of VideoReward, and what of a Qwen-VL model is in them.

Names are those of PEFT around those of transformers 4, such as "base_model.model.model.layers.0.
mlp.up_proj.base_layer.weight", or plain ones without adapters; those of transformers 5 are read
too.
"""

import dataclasses
from collections.abc import Iterable

from flax.traverse_util import flatten_dict

from vidpref.interop.qwen_vl import qwen_vl_table
from vidpref.interop.table import Rule, Table
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.network import QwenVL
from vidpref.models.qwen_vl.reward import QwenVLReward
from vidpref.typing import PyTree

PEFT = "base_model.model."
_LAYER, FACTORS = ".base_layer", {"a": ".lora_A.default.weight", "b": ".lora_B.default.weight"}
_HEAD, UNUSED_HEAD = "rm_head.weight", "lm_head.weight"


def reward_table(
    module: QwenVLReward, prefix: str, spelling: tuple[str, str], adapted: set[str]
) -> Table:
    """The table of {"params": ..., "adapters": ...}.

    Args:
        module: the network.
        prefix: what stands before all names.
        spelling: of the model's names.
        adapted: paths of the layers that have adapters.
    """
    rules = [Rule(f"{prefix}{_HEAD}", "params/head/kernel", "linear")]
    for rule in qwen_vl_table(without_head(module.config), spelling):
        layer, _, part = rule.torch.rpartition(".")
        ours, own = f"model/{rule.ours}", rule.ours.rpartition("/")[0]
        inside = _LAYER if f"model/{own}" in adapted else ""
        rules.append(Rule(f"{prefix}{layer}{inside}.{part}", f"params/{ours}", rule.kind))
        if inside and part == "weight":
            for factor, ending in FACTORS.items():
                path = f"adapters/model/{own}/{factor}"
                rules.append(Rule(f"{prefix}{layer}{ending}", path, "linear"))
    return tuple(rules)


def without_head(config: QwenVLConfig) -> QwenVL:
    """Returns the model without the language head, which counts as tied here: scores have none."""
    text = dataclasses.replace(config.text, tie_word_embeddings=True)
    return QwenVL(dataclasses.replace(config, text=text))


def adapted_in(tree: PyTree) -> set[str]:
    """Returns the paths of the layers that have adapters in a tree."""
    return {"/".join(path[:-1]) for path in flatten_dict(tree.get("adapters", {}))}


def adapted_layers(names: Iterable[str]) -> list[str]:
    """Returns the layers that have adapters in a file, by the names of its tensors."""
    ending = FACTORS["a"]
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


def with_tokens(config: QwenVLConfig, rows: int) -> QwenVLConfig:
    """Returns the config of the model with another number of embeddings."""
    return dataclasses.replace(config, text=dataclasses.replace(config.text, vocab_size=rows))
