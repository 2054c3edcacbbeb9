"""Progress goes to stderr, and stdout is for what a program was asked for."""

import jax
import pytest

from vidpref.generation.adopt import load_config
from vidpref.runs import prompted, rounds
from vidpref.stages import data

SMALL = ["data.frames=5", "data.height=32", "data.width=32"]


def test_progress_goes_to_stderr(capsys):
    rounds.say("[1/2] data")
    assert capsys.readouterr() == ("", "[1/2] data\n")


def test_nothing_is_said_to_be_downloaded(tmp_path, monkeypatch, capsys):
    class Builder:
        def download_and_prepare(self, file_format):
            print("Downloading and preparing dataset Unknown size")

    monkeypatch.setattr(data, "_builder", lambda config, folder: Builder())
    data.build_data(load_config("dpo_aif:mini"), tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16")])
def test_a_pipeline_computes_in_the_type_of_the_device(backend, dtype, wan_folder, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    config = prompted.open_pipeline(str(wan_folder), SMALL).config
    assert (config.compute_dtype, config.text.dtype) == (dtype, dtype)
    asked = [*SMALL, "compute_dtype=bf16", "text.dtype=float32"]
    config = prompted.open_pipeline(str(wan_folder), asked).config
    assert (config.compute_dtype, config.text.dtype) == ("bfloat16", "float32")
