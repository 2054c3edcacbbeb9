"""Aligns a video generator: pre-train, sample, label, align, evaluate, report.

    python launch/tpu_run.py --config=dpo_aif:mini --workdir=runs/dpo
    python launch/tpu_run.py --config=dpo_aif --workdir=/mnt/runs/dpo --config.data.path=/mnt/ssv2
    python launch/tpu_run.py --config=rwr_aif:mini --workdir=runs/rwr --config.rounds=2
    python launch/tpu_run.py --list

--config=NAME[:SCALE] names a file of configs/; SCALE is mini (minutes on a CPU) or paper (the
default). --config.FIELD=VALUE overrides any field, e.g. --config.align.beta=500. A stopped run
goes on where it was when the same command is given again; a changed field redoes exactly the
stages that depend on it. On a pod, start the same command on every host. The last line printed
is `report: PATH` (the HTML report); the numbers are in WORKDIR/evaluation.json.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.config import by_name as configs
from vidpref.runs import command_line as program

_CONFIG = flags.DEFINE_string("config", None, "Config by name: NAME[:SCALE]; --list shows all.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; made if it does not exist.")
_LIST = flags.DEFINE_bool("list", False, "Show every config with its paper and its scales.")
_SHOW = flags.DEFINE_bool("show", False, "Print the config with its overrides and stop.")


def main(overrides: Sequence[str]) -> None:
    if _LIST.value:
        print(configs.describe_configs())
        return
    if not _CONFIG.value:
        raise app.UsageError("--config=NAME[:SCALE] is missing; --list shows the names.")
    from vidpref.generation.adopt import load_config

    config = load_config(_CONFIG.value, overrides)
    if _SHOW.value:
        print(config)
        return
    if not _WORKDIR.value:
        raise app.UsageError("--workdir=FOLDER is missing.")

    from vidpref.runs import (
        report,
        rounds,  # imported late: the answers above are instant
    )
    from vidpref.runs.artifacts import locked

    workdir = Path(_WORKDIR.value)
    program.start_devices(workdir)
    with locked(workdir):
        done, evaluated = rounds.run(config, workdir)
        command = shlex.join(["python", *sys.argv])
        path = report.write_run_report(done, evaluated, command=command)
    print(f"report: {path}")


if __name__ == "__main__":
    program.launch(main)
