"""Files: safetensors and .npy as torch alone reads and writes them, pictures by Pillow."""

import ast
import json
import math
import mmap
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

TENSOR_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16}
CLIP_SUFFIXES = (".npy", ".gif", ".webp")
ARRAY_TYPES = {"|u1": torch.uint8, "<f4": torch.float32, "<f8": torch.float64}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; their pages are read when they are used."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        dtype, shape = TENSOR_TYPES[entry["dtype"]], entry["shape"]
        offset = start + entry["data_offsets"][0]
        flat = torch.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=offset)
        tensors[name] = flat.reshape(shape)
    return tensors


def read_npy(path: Path) -> Tensor:
    """The array of a .npy file."""
    data = bytearray(path.read_bytes())
    if data[:6] != b"\x93NUMPY":
        raise ValueError(f"{path} is no .npy file")
    wide = 2 if data[6] == 1 else 4
    start = 8 + wide + int.from_bytes(data[8 : 8 + wide], "little")
    header = ast.literal_eval(data[8 + wide : start].decode("latin1"))
    if header["fortran_order"] or header["descr"] not in ARRAY_TYPES:
        raise ValueError(f"{path}: want a C-ordered array of uint8 or float32, not {header}")
    dtype, shape = ARRAY_TYPES[header["descr"]], header["shape"]
    count = math.prod(shape)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape)


def write_npy(path: Path, array: Tensor) -> None:
    """Writes an array of uint8 as .npy."""
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(array.shape)}
    text = str(header).encode("latin1")
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    pixels = bytes(array.flatten().tolist())
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + pixels)


def read_picture(path: Path, height: int, width: int) -> Tensor:
    """A picture or a .npy [h, w, 3] of bytes as uint8 [height, width, 3], cut to its shape."""
    if path.suffix == ".npy":
        picture = read_npy(path)
        if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise ValueError(f"{path}: want uint8 [h, w, 3], not {list(picture.shape)}")
    else:
        image = pillow(f"reading {path}").open(path).convert("RGB")
        picture = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        picture = picture.reshape(image.height, image.width, 3)
    h, w, _ = picture.shape
    scale = max(height / h, width / w)
    size = max(height, round(h * scale)), max(width, round(w * scale))
    if (h, w) != size:
        pixels = picture.movedim(-1, 0)[None].float()
        pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        picture = pixels[0].movedim(0, -1).round().clamp(0, 255).to(torch.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return picture[top : top + height, left : left + width]


def check_out(path: Path) -> None:
    """Refuses a file that cannot be written, before a clip is drawn."""
    if path.suffix not in CLIP_SUFFIXES:
        raise ValueError(f"--out={path}: want a name that ends in {', '.join(CLIP_SUFFIXES)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--out={path}: a folder, or in a folder that is not there")
    if path.suffix != ".npy":
        pillow(f"writing {path}")


def write_clip(path: Path, clip: Tensor, fps: float) -> None:
    """Writes a clip uint8 [t, h, w, 3] as .npy, or by Pillow as .gif or .webp."""
    if path.suffix == ".npy":
        write_npy(path, clip)
        return
    image = pillow(f"writing {path}")
    size = clip.shape[2], clip.shape[1]
    frames = [image.frombytes("RGB", size, bytes(frame.flatten().tolist())) for frame in clip]
    duration = round(1000 / fps)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration, loop=0)


def pillow(purpose: str):
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError(f"{purpose} needs Pillow (pip install pillow); .npy does not") from error
    return Image
