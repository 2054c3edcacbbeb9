"""Component folders, against the files that safetensors and huggingface_hub write themselves."""

import json

import ml_dtypes
import numpy as np
import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidpref.interop.lora.files import read_tensors
from vidpref.interop.safetensors_files import TensorFolder, weights_fault, write_tensors

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214\nsize 12345\n"
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]


def state_dict() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {
        f"h.{i}": (9 * torch.randn(3, 4 + i, 2, generator=generator)).to(dtype)
        for i, dtype in enumerate(TYPES)
    }
    return state | {"scalar": torch.tensor(2.5)}


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def assert_equal(folder: TensorFolder, state: dict[str, torch.Tensor]) -> None:
    assert set(folder) == set(state)
    for name, tensor in state.items():
        wanted = as_numpy(tensor)
        assert (folder.shapes[name], folder.dtypes[name]) == (wanted.shape, wanted.dtype)
        assert folder[name].dtype == wanted.dtype
        np.testing.assert_array_equal(folder[name], wanted, strict=True)


@pytest.mark.parametrize("stem", ["diffusion_pytorch_model", "model"])
@pytest.mark.parametrize("size", ["1GB", 200])
def test_reads_what_the_originals_write(tmp_path, stem, size):
    pattern = stem + "{suffix}.safetensors"
    save_torch_state_dict(state_dict(), tmp_path, filename_pattern=pattern, max_shard_size=size)
    assert (tmp_path / f"{stem}.safetensors.index.json").exists() == (size == 200)
    assert_equal(TensorFolder(tmp_path), state_dict())


@pytest.mark.parametrize("max_shard_bytes", [10**9, 200])
def test_the_originals_read_what_we_write(tmp_path, max_shard_bytes):
    ours = {name: as_numpy(tensor) for name, tensor in state_dict().items()}
    ours["h.0"] = np.asfortranarray(ours["h.0"])  # as a transposed kernel is
    *_, last = write_tensors(tmp_path, ours, max_shard_bytes=max_shard_bytes)
    files = sorted(tmp_path.glob("*.safetensors"))
    theirs = {name: t for path in files for name, t in load_file(path).items()}
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in state_dict().items())
    for path in files:
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
    assert_equal(TensorFolder(tmp_path), state_dict())
    if max_shard_bytes > 200:
        assert [path.name for path in files] == ["diffusion_pytorch_model.safetensors"]
        return
    index = json.loads(last.read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in ours.values())
    assert sorted(set(index["weight_map"].values())) == [path.name for path in files]
    sizes = [[t.nbytes for t in load_file(path).values()] for path in files]
    assert len(files) > 1
    assert all(sum(own) <= 200 or len(own) == 1 for own in sizes)


def test_a_part_is_read_alone(tmp_path):
    write_tensors(tmp_path, {"a": np.arange(60).reshape(3, 4, 5)})
    part = TensorFolder(tmp_path).read("a", (slice(1, 3), slice(None), slice(2, 4)))
    np.testing.assert_array_equal(part, np.arange(60).reshape(3, 4, 5)[1:3, :, 2:4])


def test_weights_are_not_overwritten(tmp_path):
    write_tensors(tmp_path, {"a": np.zeros(3)})
    with pytest.raises(ValueError, match="holds weights already"):
        write_tensors(tmp_path, {"a": np.zeros(3)})
    with pytest.raises(ValueError, match="no such type: a complex128"):
        write_tensors(tmp_path / "other", {"a": np.zeros(3, complex)})


def broken_folders():
    def pickle(folder):
        torch.save({"a": torch.zeros(3)}, folder / "pytorch_model.bin")

    def pipeline(folder):
        (folder / "model_index.json").write_text("{}")
        (folder / "vae").mkdir()

    def cut(folder):
        [path] = write_tensors(folder, {"a": np.zeros(300)})
        path.write_bytes(path.read_bytes()[:-8])

    def cut_in_header(folder):
        [path] = write_tensors(folder, {"a": np.zeros(300)})
        path.write_bytes(path.read_bytes()[:40])

    def longer(folder):
        [path] = write_tensors(folder, {"a": np.zeros(300)})
        path.write_bytes(path.read_bytes() + bytes(8))

    def other(content):
        return lambda folder: (folder / "model.safetensors").write_bytes(content)

    def pickle_renamed(folder):
        torch.save({"a": torch.zeros(3)}, folder / "model.safetensors")

    def index_of(weight_map):
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        return lambda folder: (folder / "model.safetensors.index.json").write_text(text)

    def shards_missing(folder):
        tensors = {name: np.zeros(3) for name in "abc"}
        first, _, last, _ = write_tensors(folder, tensors, max_shard_bytes=24)
        first.unlink()
        last.unlink()

    def shard_pointer(folder):
        tensors = {name: np.zeros(3) for name in "abc"}
        write_tensors(folder, tensors, max_shard_bytes=24)[1].write_bytes(POINTER)

    def shard_missing(folder):
        write_tensors(folder, {"a": np.zeros(3), "b": np.zeros(3)}, max_shard_bytes=24)[0].unlink()

    def tensor_missing(folder):
        write_tensors(folder, {n: np.zeros(3) for n in "abc"}, max_shard_bytes=24)
        save_file(
            {"x": torch.zeros(3)}, folder / "diffusion_pytorch_model-00002-of-00003.safetensors"
        )

    def two(folder):
        for stem in ("model", "diffusion_pytorch_model"):
            write_tensors(folder, {"a": np.zeros(3)}, stem=stem)

    def quantised(folder):
        save_file({"a": torch.zeros(3).to(torch.float8_e4m3fn)}, folder / "model.safetensors")

    return [
        (pickle, r"as pickle \(pytorch_model\.bin\).*safe_serialization=True"),
        (pipeline, "whole pipeline; give one of its folders: vae"),
        (cut, "cut short: it has 2496 bytes of 2504; finish the download"),
        (cut_in_header, "cut short: it ends in its header, after 40 bytes; finish"),
        (longer, "damaged"),
        (other(b""), r"model\.safetensors: an empty file; download it again"),
        (
            other(POINTER),
            r"model\.safetensors: a pointer of git-lfs.*: run `git lfs pull` in /",
        ),
        (other(b"\n<!DOCTYPE HTML><p>404"), "a page of HTML or XML.*download it again"),
        (other(b"<?xml version='1.0'?><Error>"), "a page of HTML or XML"),
        (other(b"Entry not found, really"), "damaged or no safetensors file"),
        (pickle_renamed, "a pickle of PyTorch under the name of a safetensors file"),
        (lambda folder: (folder / "model.safetensors").mkdir(), "a folder, where a file is wanted"),
        (shards_missing, r"2 of its 3 files are missing: \S+-00001-of-00003\S+, \S+-00003-of-0000"),
        (shard_pointer, r"-00002-of-00003\.safetensors: a pointer of git-lfs"),
        (index_of([]), r"index.json is no index of safetensors files: its weight_map must"),
        (index_of({}), r"index.json is no index of safetensors files: its weight_map must"),
        (index_of({"a": ["b"]}), r"the name of a file beside it, not \['b'\]"),
        (index_of({"a": "../b"}), r"the name of a file beside it, not '\.\./b'"),
        (index_of({"a": None}), r"the name of a file beside it"),
        (shard_missing, "files are missing: diffusion_pytorch_model-00001-of-00002"),
        (tensor_missing, "disagree about b, x"),
        (two, "keep the one that is meant"),
        (quantised, "a has the type F8_E4M3.*unquantised"),
        (lambda folder: None, "it holds nothing"),
        (lambda folder: folder.rmdir(), "no such folder"),
    ]


@pytest.mark.parametrize(("breaks", "message"), broken_folders())
def test_what_is_wrong_with_a_folder_is_said(tmp_path, breaks, message):
    breaks(tmp_path)
    with pytest.raises(ValueError, match=message):
        TensorFolder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(POINTER, "a pointer of git-lfs"), (b"", "an empty file"), (b"<html>", "a page of HTML")],
)
def test_the_same_is_said_of_a_lora_file(tmp_path, content, message):
    for name in ("pytorch_lora_weights.safetensors", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            read_tensors(tmp_path / name)


def test_only_headers_are_read_to_find_a_fault(tmp_path):
    write_tensors(tmp_path, {"a": np.zeros(3)})
    assert weights_fault(tmp_path) == ""
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    assert "it holds nothing" in weights_fault(tmp_path)
