"""The start-up script of TPU VMs, with every program of the VM written down instead of run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.launch.fake_programs import CURL, Fakes

ROOT = Path(__file__).parents[2]
COMMAND = "python launch/tpu_run.py --config=dpo_aif --workdir=/shared/runs/dpo --config.a='b c'"
# systemd-run: runs what the unit would, in its folder, without the programs of a worker
SYSTEMD_RUN = """
while [ "${1#--}" != "$1" ]; do shift; done
cd "$FAKE_TARGET" && "$@"
"""


@pytest.fixture
def vm(tmp_path):
    """A VM whose /shared and /opt/vidpref lie in a temporary folder; returns a way to start it."""
    programs = ("apt_get", "mount", "systemctl")
    fakes = Fakes(
        tmp_path / "fakes",
        curl=CURL,
        mountpoint="exit 1",
        systemd_run=SYSTEMD_RUN,
        **dict.fromkeys(programs, ""),
    )
    shared, target = tmp_path / "shared", tmp_path / "opt" / "vidpref"
    shutil.copytree(ROOT / "launch", shared / "vidpref" / "launch")
    (shared / "vidpref" / ".venv").mkdir()
    pods = shared / "vidpref" / "launch" / "pods"
    (pods / "install.sh").write_text("echo installed in $(dirname $0)\n")
    (pods / "worker.sh").write_text('printf "%s\\n" "$@"\n')
    text = (pods / "startup.sh").read_text()
    script = tmp_path / "startup.sh"
    script.write_text(text.replace("/shared", str(shared)).replace("/opt/vidpref", str(target)))

    def start(**metadata):
        for name, value in metadata.items():
            (fakes.metadata / name.replace("_", "-")).write_text(value)
        return subprocess.run(
            ["bash", script],
            env=fakes.environment(FAKE_TARGET=str(target)),
            capture_output=True,
            text=True,
            timeout=60,
        )

    start.fakes, start.target, start.shared = fakes, target, shared
    return start


def test_a_vm_mounts_installs_and_runs(vm):
    done = vm(vidpref_nfs="10.0.0.2:/data", vidpref_command=COMMAND)
    assert done.returncode == 0, done.stderr
    (mount,) = vm.fakes.calls("mount")
    assert mount[-2:] == ["10.0.0.2:/data", str(vm.shared)]
    assert (vm.target / "launch" / "tpu_run.py").is_file()
    assert not (vm.target / ".venv").exists()  # that of another machine
    lines = done.stdout.splitlines()
    assert lines[0] == f"installed in {vm.target}/launch/pods"
    assert lines[1:] == [
        *("python", "launch/tpu_run.py", "--config=dpo_aif"),
        *("--workdir=/shared/runs/dpo", "--config.a=b c"),
    ]


def test_the_unit_starts_again_after_the_right_ends(vm):
    vm(vidpref_nfs="10.0.0.2:/data", vidpref_command=COMMAND)
    (call,) = vm.fakes.calls("systemd_run")
    unit = dict(word.removeprefix("--property=").partition("=")[::2] for word in call)
    assert unit["Restart"] == "on-failure"
    never = set(map(int, unit["RestartPreventExitStatus"].split()))
    assert never == {*range(1, 42), 126, 127}


def test_started_again_it_replaces_the_checkout_and_keeps_what_is_installed(vm):
    vm(vidpref_nfs="10.0.0.2:/data", vidpref_command=COMMAND)
    (vm.target / "old.py").touch()
    (vm.target / ".venv").mkdir()
    assert vm().returncode == 0
    assert not (vm.target / "old.py").exists()
    assert (vm.target / ".venv").is_dir()
    assert ["stop", "vidpref"] in vm.fakes.calls("systemctl")


@pytest.mark.parametrize("missing", ["vidpref_nfs", "vidpref_command"])
def test_missing_metadata_is_named(missing, vm):
    given = {"vidpref_nfs": "10.0.0.2:/data", "vidpref_command": COMMAND}
    del given[missing]
    done = vm(**given)
    assert done.returncode != 0
    assert f"the instance has no metadata {missing.replace('_', '-')}" in done.stderr
    assert not vm.fakes.calls("mount")
    assert not vm.fakes.calls("systemd_run")
