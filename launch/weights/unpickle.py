"""Turns the pickled weights of a VideoReward folder into safetensors; needs torch, and not vidpref.

    pip install torch safetensors
    python launch/weights/unpickle.py --folder=VideoReward [--base=Qwen2-VL-2B-Instruct]

Reads every checkpoint-N of the folder and writes checkpoint-N/model.safetensors. What VideoAlign
saved whole is `model.pth`; what it saved in parts, `adapter_model.safetensors` beside
`non_lora_state_dict.pth`, lacks the weights that were not trained, which --base gives: the folder
of the model that it was made of. Only tensors are unpickled (`weights_only=True`), so that no
program in a file can run. The pickle stays where it is.
"""

import argparse
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WHOLE, PART, ADAPTERS = "model.pth", "non_lora_state_dict.pth", "adapter_model.safetensors"
OUT = "model.safetensors"
PREFIX = "base_model.model."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="folder with checkpoint-N")
    parser.add_argument("--base", type=Path, help="folder of the model that it was made of")
    flags = parser.parse_args()
    found = [path for path in sorted(flags.folder.glob("checkpoint-*")) if path.is_dir()]
    if not found:
        raise SystemExit(f"{flags.folder} has no checkpoint-N")
    for checkpoint in found:
        out = checkpoint / OUT
        if out.exists():
            print(f"{out} is there already")
            continue
        tensors = read(checkpoint, flags.base)
        # tensors that share memory, such as a tied head, are written out each
        tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        partial = out.with_name(f".{OUT}.partial")
        save_file(tensors, partial, {"format": "pt"})
        partial.replace(out)
        print(f"{out}: {len(tensors)} tensors")


def read(checkpoint: Path, base: Path | None) -> dict[str, torch.Tensor]:
    """Returns the tensors of a checkpoint by the names that VideoAlign's `model.pth` has."""
    if (checkpoint / WHOLE).exists():
        return unpickled(checkpoint / WHOLE)
    if not (checkpoint / PART).exists() or not (checkpoint / ADAPTERS).exists():
        raise SystemExit(f"{checkpoint} has neither {WHOLE} nor {PART} with {ADAPTERS}")
    if base is None:
        raise SystemExit(f"{checkpoint} holds what was trained alone: give the rest by --base")
    # PEFT leaves the adapter's name out of files
    adapters = {
        re.sub(r"\.(lora_[AB])\.weight$", r".\1.default.weight", name): tensor
        for name, tensor in load_file(checkpoint / ADAPTERS).items()
    }
    layers = {re.sub(r"\.lora_[AB]\.default\.weight$", "", name) for name in adapters}
    tensors = {}
    for path in sorted(base.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            layer, _, part = f"{PREFIX}{name}".rpartition(".")
            inside = ".base_layer" if layer in layers else ""
            tensors[f"{layer}{inside}.{part}"] = tensor
    return {**tensors, **unpickled(checkpoint / PART), **adapters}


def unpickled(path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of a state dict."""
    tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise SystemExit(f"{path} is no state dict: it holds more than tensors")
    return tensors


if __name__ == "__main__":
    main()
