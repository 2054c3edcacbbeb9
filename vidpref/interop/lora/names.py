"""What the tensors of a LoRA file are called, by diffusers, PEFT, the authors of Wan, and kohya."""

import collections
import re
from collections.abc import Iterable, Iterator, Mapping

# Parts of an adapter: the factors and the bias of its product; the strength as a tensor; whole
# differences of a weight and of a bias.
A, B, BIAS, ALPHA, DIFFERENCE, BIAS_DIFFERENCE = "a", "b", "bias", "alpha", "diff", "diff_b"

# Endings of a tensor's name; PEFT puts the name of the adapter before ".weight" where it has one.
_ENDINGS = (
    (r"\.lora_A(\.[^.]+)?\.weight", A),
    (r"\.lora_B(\.[^.]+)?\.weight", B),
    (r"\.lora_B(\.[^.]+)?\.bias", BIAS),
    (r"(\.|_)lora[._]down\.weight", A),
    (r"(\.|_)lora[._]up\.weight", B),
    (r"\.lora_linear_layer\.down\.weight", A),
    (r"\.lora_linear_layer\.up\.weight", B),
    (r"\.alpha", ALPHA),
    (r"\.diff", DIFFERENCE),
    (r"\.diff_b", BIAS_DIFFERENCE),
)
# What stands before the name of a layer.
_PREFIXES = (
    *("base_model.model.", "model.", "diffusion_model.", "transformer.", "pipe.", "dit."),
    *("lora_unet_", "lora_transformer_", "_"),
)
# Marks of adapters that compute something else, and what they are.
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "LoCon with a core of its own (Tucker)",
    "boft_": "BOFT",
    "oft_": "OFT",
    "ia3_": "IA3",
    "on_input": "IA3",
    "vera_lambda": "VeRA",
    "lora_E": "AdaLoRA",
    "ranknum": "AdaLoRA",
    "lora_embedding_": "LoRA of an embedding",
    "lora_multi_embedding_": "LoRA of an embedding",
    "modules_to_save": "whole weights beside a LoRA (modules_to_save)",
    "scale_weight": "weights in 8 bits with scales",
}
_OTHER_NETWORKS = {
    "text_encoder": "the text encoder",
    "lora_te": "the text encoder",
    "transformer_2.": "the second transformer of Wan2.2",
}


def layers_of(depths: Mapping[str, int], original: Mapping[str, str]) -> dict[str, str]:
    """Returns {name in a file: name in the table} of every layer of a network.

    Args:
        depths: names in the table, with "{i}" where the number of a block stands, and how many
            blocks there are.
        original: other names that files have -> those in the table, likewise; of modules that the
            network lacks too.
    """
    named = {}
    spellings = {name: module for name, module in original.items() if module in depths}
    for name, module in [*spellings.items(), *zip(depths, depths, strict=True)]:
        for i in range(depths[module]):
            spelt, layer = (text.replace("{i}", str(i)) for text in (name, module))
            named |= {spelt: layer, spelt.replace(".", "_"): layer}
    return named


def sort_tensors(
    names: Iterable[str], layers: Mapping[str, str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Returns {layer: {part: name of its tensor}}, and what is wrong with the other names.

    Args:
        names: of the tensors of a file.
        layers: result of `layers_of`.
    """
    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    unknown: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        if complaint := _not_ours(name):
            unknown[complaint].append(name)
            continue
        spelt, part = _split(name)
        layer = next((layers[rest] for rest in _without_prefixes(spelt) if rest in layers), None)
        if not part:
            unknown["no known kind of tensor"].append(name)
        elif layer is None:
            unknown["layers that the network does not have"].append(name)
        elif part in found[layer]:
            unknown[f"the same as {found[layer][part]}"].append(name)
        else:
            found[layer][part] = name
    return dict(found), [_listed(what, which) for what, which in unknown.items()]


def _not_ours(name: str) -> str:
    """What a tensor is that no plain LoRA of the transformer has; "" for others."""
    for start, network in _OTHER_NETWORKS.items():
        if name.startswith(start):
            return f"adapters of {network}"
    return next((kind for mark, kind in _OTHER_KINDS.items() if mark in name), "")


def _split(name: str) -> tuple[str, str]:
    """The layer as the file spells it, and the part; no part for an unknown ending."""
    # diffusers before PEFT: "attn1.processor.to_q_lora.down.weight"
    name = name.replace(".processor.", ".")
    name = re.sub(r"\.to_out_lora\.(down|up)\.weight$", r".to_out.0_lora.\1.weight", name)
    for ending, part in _ENDINGS:
        if match := re.search(f"{ending}$", name):
            return name[: match.start()], part
    return name, ""


def _without_prefixes(name: str) -> Iterator[str]:
    yield name
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            yield from _without_prefixes(name.removeprefix(prefix))


def _listed(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{what}: {shown}"
