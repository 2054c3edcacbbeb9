"""Pickled tensors of a file become safetensors, and what holds something else does not."""

import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from launch.weights import unpickle


def run(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["unpickle.py", *map(str, argv)])
    unpickle.main()


@pytest.mark.parametrize("nested", [False, True])
def test_a_file_of_tensors_by_name_or_below_state_dict(nested, monkeypatch, tmp_path):
    tensors = {"visual.proj": torch.randn(3, 2).half(), "logit_scale": torch.tensor(4.6)}
    held = {"epoch": 3, "state_dict": tensors} if nested else tensors
    torch.save(held, tmp_path / "HPS.pt")
    run(monkeypatch, f"--file={tmp_path / 'HPS.pt'}", f"--out={tmp_path / 'new/w.safetensors'}")
    found = load_file(tmp_path / "new" / "w.safetensors")
    assert found.keys() == tensors.keys()
    np.testing.assert_array_equal(found["visual.proj"], tensors["visual.proj"].numpy())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--file=gone.pt", "--out=w.safetensors"], "gone.pt: no such file"),
        (["--file=gone.pt"], "--file needs --out"),
        (["--file=gone.pt", "--out=w.bin"], "name of a .safetensors file"),
    ],
)
def test_what_is_missing_is_named(argv, message, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, *argv)
    assert message in str(caught.value)


def test_more_than_tensors_is_refused(monkeypatch, tmp_path):
    torch.save({"weight": [1, 2]}, tmp_path / "w.pt")
    with pytest.raises(SystemExit, match="is no state dict: it holds more than tensors"):
        run(monkeypatch, f"--file={tmp_path / 'w.pt'}", f"--out={tmp_path / 'w.safetensors'}")
