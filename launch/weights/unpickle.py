"""Turns pickled weights into safetensors: of a VideoReward folder, or of one file.

It needs torch, and not vidpref.

    pip install torch safetensors
    python launch/weights/unpickle.py --folder=VideoReward [--base=Qwen2-VL-2B-Instruct]
    python launch/weights/unpickle.py --file=HPS_v2.1.pt --out=hps/open_clip_model.safetensors

Of a folder every checkpoint-N is read, and checkpoint-N/model.safetensors written. What VideoAlign
saved whole is `model.pth`; what it saved in parts, `adapter_model.safetensors` beside
`non_lora_state_dict.pth`, lacks the weights that were not trained, which --base gives: the folder
of the model that it was made of. A file (HPSv2, RAFT, an aesthetic head) holds tensors by name, or
has them under "state_dict".

Only tensors are unpickled (`weights_only=True`), so that no program in a file can run. The pickle
stays where it is.
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
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", type=Path, help="folder with checkpoint-N")
    source.add_argument("--file", type=Path, help="pickled tensors")
    parser.add_argument("--base", type=Path, help="folder of the model that it was made of")
    parser.add_argument("--out", type=Path, help="the safetensors file that a file becomes")
    flags = parser.parse_args()
    if flags.file:
        if not flags.out or flags.out.suffix != ".safetensors":
            raise SystemExit("--file needs --out, the name of a .safetensors file")
        write(unpickled(flags.file), flags.out)
        return
    found = [path for path in sorted(flags.folder.glob("checkpoint-*")) if path.is_dir()]
    if not found:
        raise SystemExit(f"{flags.folder} has no checkpoint-N")
    for checkpoint in found:
        out = checkpoint / OUT
        if out.exists():
            print(f"{out} is there already")
            continue
        write(read(checkpoint, flags.base), out)


def write(tensors: dict[str, torch.Tensor], out: Path) -> None:
    """Writes a safetensors file, whole or not at all."""
    # tensors that share memory, such as a tied head, are written out each
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
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
    """Returns the tensors of a state dict, or of the one that a checkpoint holds."""
    if not path.is_file():
        raise SystemExit(f"{path}: no such file")
    tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    tensors = tensors.get("state_dict", tensors)
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise SystemExit(f"{path} is no state dict: it holds more than tensors")
    return tensors


if __name__ == "__main__":
    main()
