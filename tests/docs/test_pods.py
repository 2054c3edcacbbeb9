"""The commands of docs/pods.md are taken by the programs they call."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.launch.fake_programs import Fakes
from tests.launch.programs import Launcher
from vidpref.runs.slices import parse_slice

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "pods.md").read_text()
BLOCKS = re.findall(r"(?ms)^ *```bash\n(.*?)^ *```$", TEXT)


def commands(program):
    """The words of every command that begins with a program, without redirections and comments."""
    lines = "\n".join(BLOCKS).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if program in line]
    assert words, f"docs/pods.md has no {program}"
    return [line[: line.index(">")] if ">" in line else line for line in words]


@pytest.mark.parametrize("argv", commands("launch/manifest.py"))
def test_manifests_are_made_and_are_for_the_nodes_that_are_made(argv, monkeypatch, capsys):
    assert argv[:2] == ["python", "launch/manifest.py"]
    ended = Launcher(monkeypatch, capsys)("manifest", *argv[2:])
    assert ended.status == 0, ended.text
    manifest = yaml.safe_load(ended.text)
    assert f"kubectl delete jobset {manifest['metadata']['name']} " in TEXT
    (topology,) = [word.partition("=")[2] for word in argv if word.startswith("--topology=")]
    tpus = parse_slice(topology)
    flags = f"--machine-type={tpus.machine} --tpu-topology={tpus.shape} --num-nodes={tpus.hosts}"
    assert flags in TEXT


@pytest.mark.parametrize("argv", commands("launch/pod.sh"))
def test_commands_on_slices_are_taken(argv, tmp_path):
    fakes = Fakes(tmp_path / "fakes", gcloud="")
    done = subprocess.run(
        [argv[0], "--dry_run", *argv[1:]],
        cwd=ROOT,
        env=fakes.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "gcloud compute tpus tpu-vm ssh" in done.stdout
    assert not fakes.calls("gcloud")


def test_the_claim_is_one_that_hosts_share():
    (text,) = re.findall(r"(?ms)<<END[^\n]*\n(.*?)^END$", TEXT)
    claim = yaml.safe_load(text)
    assert (claim["kind"], claim["spec"]["accessModes"]) == (
        "PersistentVolumeClaim",
        ["ReadWriteMany"],
    )
    assert f"--claim={claim['metadata']['name']} " in TEXT


def test_files_that_commands_name_are_there():
    named = {word for block in BLOCKS for word in re.findall(r"[\w./]*\.(?:py|sh)\b", block)}
    named |= {word for block in BLOCKS for word in re.findall(r"launch/pods/\w+", block)}
    own = {word for word in named if word.startswith(("launch/", "benchmarks/"))}
    assert len(own) >= 6
    lost = [word for word in own if not list(ROOT.glob(f"{word}*"))]
    assert not lost
