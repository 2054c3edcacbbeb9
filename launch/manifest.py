"""Prints the JobSet that runs a config on a slice of TPUs in GKE.

    python launch/manifest.py --config=dpo_aif --topology=v3:8x8 --image=REGISTRY/vidpref:1 \\
        --claim=shared --workdir=/shared/runs/dpo --config.data.path=/shared/ssv2 > dpo.yaml
    kubectl create -f dpo.yaml

--image is built with launch/pods/Dockerfile. --claim names the PersistentVolumeClaim of a file
system that all hosts share (Filestore, Lustre); it is mounted at --mount, and what is not in gs://
of data, weights and the work directory lies there. Where all of it is in gs:// no claim is needed.
The config and its overrides are checked here, as far as that goes without the files. docs/pods.md
leads through it, and says what starts again after which end.
"""

import re
import shlex
import sys
from collections.abc import Sequence

import yaml
from absl import app, flags

from vidpref.config.by_name import ConfigError, named_config
from vidpref.runs import command_line
from vidpref.runs.jobset import Job, check_name, jobset
from vidpref.runs.slices import parse_slice
from vidpref.storage.addresses import is_address

_CONFIG = flags.DEFINE_string("config", None, "Config by name, NAME[:SCALE], as of tpu_run.py.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "Slice, such as v5e:4x8 (v5e-4x8 means the same), v3:8x8 or v5p:4x4x4."
)
_IMAGE = flags.DEFINE_string("image", None, "Container image with vidpref.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, below --mount, or gs://BUCKET/FOLDER."
)
_CLAIM = flags.DEFINE_string(
    "claim",
    None,
    "PersistentVolumeClaim of the file system that all hosts share; needed where anything lies "
    "below --mount.",
)
_MOUNT = flags.DEFINE_string("mount", "/shared", "Where that file system is mounted.")
_NAME = flags.DEFINE_string("name", None, "Name of the JobSet; made from the config if not given.")
_QUEUE = flags.DEFINE_string("queue", None, "Kueue's LocalQueue, such as xpk's multislice-queue.")
_SECRET = flags.DEFINE_string(
    "secret", None, "Secret whose entries become environment variables, such as a judge's API key."
)
_RESTARTS = flags.DEFINE_integer(
    "max_restarts", 50, "How often the run is started again at most.", lower_bound=0
)
_GRACE = flags.DEFINE_integer(
    "grace_seconds", 120, "Seconds from SIGTERM to SIGKILL, for a last checkpoint.", lower_bound=1
)


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    command = ["launch/tpu_run.py", f"--config={_CONFIG.value}", f"--workdir={_WORKDIR.value}"]
    job = Job(
        name=_NAME.value or _name_of(_CONFIG.value),
        command=[*command, *(f"--config.{override}" for override in overrides)],
        image=_IMAGE.value,
        claim=_CLAIM.value,
        mount=_MOUNT.value,
        queue=_QUEUE.value,
        secret=_SECRET.value,
        max_restarts=_RESTARTS.value,
        grace_seconds=_GRACE.value,
    )
    tpus = parse_slice(_TOPOLOGY.value)
    print("# made by", *shlex.join(["python", *sys.argv]).splitlines())
    print(f"# nodes: {tpus.hosts} of {tpus.machine} with --tpu-topology={tpus.shape}")
    print(
        yaml.safe_dump(jobset(job, tpus), sort_keys=False, default_flow_style=None, width=100),
        end="",
    )


def _check_flags(overrides: Sequence[str]) -> None:
    """Refuses what is missing or cannot be, all of it together."""
    wanted = {
        "--config=NAME[:SCALE]": _CONFIG,
        "--topology=v5e:4x8": _TOPOLOGY,
        "--image=IMAGE": _IMAGE,
        "--workdir=FOLDER": _WORKDIR,
    }
    wrong = [f"{text} is missing." for text, flag in wanted.items() if not flag.value]
    for flag, check in ((_TOPOLOGY, parse_slice), (_NAME, check_name)):
        try:
            if flag.value:
                check(flag.value)
        except ValueError as error:
            wrong.append(f"--{flag.name}={error}")
    mount = f"{_MOUNT.value.rstrip('/')}/"
    if not mount.startswith("/") or mount == "/":
        wrong.append(f"--mount={_MOUNT.value}: give an absolute path, such as /shared.")
    elif _WORKDIR.value and not (is_address(_WORKDIR.value) or _WORKDIR.value.startswith(mount)):
        wrong.append(
            f"--workdir={_WORKDIR.value} is not on the file system that hosts share: give a folder "
            f"below {mount} (--mount)."
        )
    elif not _CLAIM.value and (below := _below(mount, overrides)):
        wrong.append(f"--claim=NAME is missing: {below} lies on the file system that it names.")
    # where sizes are taken from a pipeline's folder, that lies in the cluster
    if _CONFIG.value and not any(override.startswith("model.init=") for override in overrides):
        try:
            named_config(_CONFIG.value, overrides)
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise app.UsageError("\n".join(wrong))


def _below(mount: str, overrides: Sequence[str]) -> str:
    """Returns the first of what the command names that lies on the file system, "" if nothing."""
    named = [f"--workdir={_WORKDIR.value or ''}"]
    named += [f"--config.{override}" for override in overrides]
    return next((one for one in named if one.partition("=")[2].startswith(mount)), "")


def _name_of(config: str) -> str:
    """Returns the config's name as Kubernetes spells names."""
    return re.sub("[^a-z0-9]+", "-", f"vidpref-{config}").strip("-")


if __name__ == "__main__":
    command_line.launch(main)
