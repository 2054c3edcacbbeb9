"""How strongly each adapter of a file counts, by the fields of PEFT's LoraConfig."""

import math
import re
from collections.abc import Mapping
from typing import Any

# Fields under which the tensors mean something else, with the values that leave them alone. Lists
# of layers and settings of the training change nothing, nor do fields that are not known here.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False,),
    "use_qalora": (False,),
    "use_bdlora": (),
    "arrow_config": (),
    "kasa_config": (),
    "alora_invocation_tokens": (),
    "layer_replication": (),
    "target_parameters": (),
    "trainable_token_indices": (),
    # the others change the weights that the adapters stand on
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
_DEFAULT = 8  # of r and of lora_alpha in PEFT, where a config leaves them out


def scales(
    config: Mapping[str, Any], ranks: Mapping[str, int], spelt: Mapping[str, str]
) -> dict[str, float]:
    """Returns by what the product of each layer's factors is multiplied.

    alpha / r, or alpha / sqrt(r) with `use_rslora`; `rank_pattern` and `alpha_pattern` are regular
    expressions for the end of a layer's name, of which the first that matches counts (PEFT's
    `get_pattern_key`). Without a config every scale is 1, as in diffusers.

    Args:
        config: fields of a LoraConfig; empty where the file has none.
        ranks: rank of each layer by its name in diffusers.
        spelt: names of the layers in the file, which patterns may have been written for.

    Raises:
        ValueError: a field that asks for another computation, or ranks that are not the tensors'.
    """
    odd = {
        field: config[field]
        for field, plain in _PLAIN.items()
        if config.get(field) not in (None, [], {}, *plain)
    }
    if odd:
        raise ValueError(f"its config says {odd}, which is not computed here")
    if not config:
        return dict.fromkeys(ranks, 1.0)
    stabilised = config.get("use_rslora")
    if stabilised not in (None, False, True):
        raise ValueError(f"its config has use_rslora={stabilised!r}, wanted true or false")
    found, wrong = {}, []
    for layer, rank in ranks.items():
        names = (layer, spelt[layer])
        said = _of_layer(config, "rank_pattern", "r", names)
        alpha = _of_layer(config, "alpha_pattern", "lora_alpha", names)
        if said != rank:
            wrong.append(f"r={said} for {layer}, whose tensors have rank {rank}")
            continue
        found[layer] = alpha / (math.sqrt(rank) if stabilised else rank)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError("its config says " + ", ".join(wrong[:3]) + more)
    return found


def _of_layer(
    config: Mapping[str, Any], patterns: str, field: str, names: tuple[str, ...]
) -> int | float:
    value, said = config.get(field), field
    by_pattern = config.get(patterns) or {}
    if not isinstance(by_pattern, Mapping):
        raise ValueError(f"its config has {patterns}={by_pattern!r}, wanted {{pattern: number}}")
    for pattern, own in by_pattern.items():
        try:
            found = any(re.match(rf"(.*\.)?({pattern})$", name) for name in names)
        except re.error as error:
            raise ValueError(
                f"its config has {pattern!r} in {patterns}, which is no regular expression: {error}"
            ) from error
        if found:
            value, said = own, f"{patterns}[{pattern!r}]"
            break
    if value is None:
        return _DEFAULT
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"its config has {said}={value!r}, wanted a number")
    return value
