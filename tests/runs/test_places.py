"""The address of a bucket never comes to be a local folder: it is opened, or refused."""

from pathlib import Path

import pytest

import vidpref
from vidpref.config.by_name import named_config
from vidpref.config.schema import FIELDS
from vidpref.runs.places import address_problem
from vidpref.storage.copies import here
from vidpref.storage.mirror import open_folder

ADDRESSES = ["s3://b/run", "https://h/x.csv", "file:///run", "HF://a/b", "GS://bucket/run"]
BUCKETS = ["gs://bucket/run", "gs://bucket"]
PLACES = {name for name, field in FIELDS.items() if field.touches == "place"}
NAMES = ["--workdir", "workdir", "--videos", *(f"--config.{name}" for name in sorted(PLACES))]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_and_work_directories_are_in_gs_alone(name):
    def problem(value):
        return address_problem(name, value, read=name == "--videos")

    for value in BUCKETS:
        assert problem(value) == ""
    for value in ADDRESSES if not name.endswith("base_url") else ():
        assert problem(value).startswith(f"{name}={value}: ")
        assert "gs://" in problem(value)


@pytest.mark.parametrize("name", ["--out", "--cache", "--json", "--config.align.policy"])
@pytest.mark.parametrize("value", ADDRESSES + BUCKETS)
def test_other_files_are_on_a_file_system(name, value):
    assert address_problem(name, value).startswith(f"{name}={value}: ")


@pytest.mark.parametrize(
    "value", ["", "runs/dpo", "/shared/gs:/b", "C:/runs", "a://b c", "see gs://b", "gs:"]
)
@pytest.mark.parametrize("name", ["--workdir", "--config.data.path", "--out"])
def test_paths_and_texts_are_left_alone(name, value):
    assert address_problem(name, value) == address_problem(name, Path(value)) == ""


def test_the_address_of_a_server_is_none_of_a_file():
    assert address_problem("--config.reward.remote_judge.base_url", "http://judge:8000/v1") == ""


def test_python_refuses_them_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = named_config("dpo_aif:mini")
    for call in (lambda: vidpref.run(config, "s3://b/run"), lambda: vidpref.open_run("s3://b/run")):
        with pytest.raises(ValueError, match="workdir=s3://b/run: of buckets vidpref knows those"):
            call()
    for opens in (here, open_folder):
        with pytest.raises(OSError, match="s3://b/run: of buckets vidpref knows"):
            opens("s3://b/run")
        with pytest.raises(OSError, match="https://h/x: give a path, or an address gs://BUCKET"):
            opens("https://h/x")
    assert not list(tmp_path.iterdir())
