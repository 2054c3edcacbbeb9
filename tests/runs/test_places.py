"""The address of a bucket never comes to be a local folder: it is opened, or refused."""

from pathlib import Path

import pytest

import vidpref
from vidpref.config.by_name import named_config
from vidpref.runs.places import address_problem

ADDRESSES = ["s3://b/run", "https://h/x.csv", "file:///run", "HF://a/b", "GS://bucket/run"]


@pytest.mark.parametrize("value", [*ADDRESSES, "gs://bucket/run", "gs://bucket"])
def test_addresses_are_no_places_of_data(value):
    problem = address_problem("--config.data.path", value)
    assert problem.startswith(f"--config.data.path={value}: ")
    assert "docs/pods.md" in problem


@pytest.mark.parametrize("value", ADDRESSES)
def test_a_work_directory_is_in_gs_alone(value):
    problem = address_problem("--workdir", value)
    assert problem.startswith(f"--workdir={value}: ")
    assert "or in gs://" in problem
    for bucket in ("gs://bucket/run", "gs://bucket"):
        assert address_problem("--workdir", bucket) == address_problem("workdir", bucket) == ""


@pytest.mark.parametrize(
    "value",
    ["", "runs/dpo", "/shared/gs:/b", "C:/runs", "a://b c", "see gs://b", "gs:", Path("gs://b")],
)
def test_paths_and_texts_are_left_alone(value):
    assert address_problem("--workdir", value) == ""


def test_python_refuses_them_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = named_config("dpo_aif:mini")
    for call in (lambda: vidpref.run(config, "s3://b/run"), lambda: vidpref.open_run("s3://b/run")):
        with pytest.raises(ValueError, match="workdir=s3://b/run: files are read and written"):
            call()
    assert not list(tmp_path.iterdir())
