"""Files lie on a file system: the address of a bucket never comes to be a local folder."""

from pathlib import Path

import pytest

import vidpref
from vidpref.config.by_name import named_config
from vidpref.runs.places import address_problem


@pytest.mark.parametrize(
    "value", ["gs://b/run", "gs://b", "s3://b/run", "https://h/x.csv", "file:///run", "HF://a/b"]
)
def test_addresses_are_none_of_ours(value):
    problem = address_problem("--workdir", value)
    assert problem.startswith(f"--workdir={value}: ")
    assert "docs/pods.md" in problem


@pytest.mark.parametrize(
    "value",
    ["", "runs/dpo", "/shared/gs:/b", "C:/runs", "a://b c", "see gs://b", "gs:", Path("gs://b")],
)
def test_paths_and_texts_are_left_alone(value):
    assert address_problem("--workdir", value) == ""


def test_python_refuses_them_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = named_config("dpo_aif:mini")
    for call in (lambda: vidpref.run(config, "gs://b/run"), lambda: vidpref.open_run("gs://b/run")):
        with pytest.raises(ValueError, match="workdir=gs://b/run: files are read and written"):
            call()
    assert not list(tmp_path.iterdir())
