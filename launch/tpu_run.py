"""Aligns a video generator: pre-train, sample, label, align, evaluate, report.

    python launch/tpu_run.py --config=dpo_aif:mini --workdir=runs/dpo
    python launch/tpu_run.py --config=dpo_aif --workdir=/mnt/runs/dpo --config.data.path=/mnt/ssv2
    python launch/tpu_run.py --config=rwr_aif:mini --workdir=runs/rwr --config.rounds=2
    python launch/tpu_run.py --list
    python launch/tpu_run.py --config=dpo_aif:mini --describe=align

--config=NAME[:SCALE] names a file of configs/; SCALE is mini (minutes on a CPU) or paper (the
default). --config.FIELD=VALUE overrides any field that counts, e.g. --config.align.beta=500;
--describe says what each means. A stopped run goes on where it was when the same command is given
again; a changed field redoes exactly the stages that depend on it, and --dry_run says which. On a
pod, start the same command on every host. The last line printed is `report: PATH` (the HTML
report); the numbers are in WORKDIR/evaluation.json and, one a row, in evaluation.csv; without a
judge, those of training in training.csv. These are of the newest run; WORKDIR/runs/ keeps those of
each, and the other programs take such a folder as --workdir too.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.config import describe
from vidpref.config.by_name import ConfigError, named_config
from vidpref.runs import command_line
from vidpref.storage.mirror import address, open_folder

_CONFIG = flags.DEFINE_string("config", None, "Config by name: NAME[:SCALE]; --list shows all.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run, or gs://BUCKET/FOLDER; made if missing."
)
_LIST = flags.DEFINE_bool("list", False, "Show every config with its paper and its scales.")
_SHOW = flags.DEFINE_bool("show", False, "Print the config with its overrides and stop.")
_DESCRIBE = flags.DEFINE_string(
    "describe",
    None,
    "Print what the fields of a section (of all, without =SECTION) mean, may be and change.",
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print which stages would run, and why, and stop.")
_PRUNE = flags.DEFINE_bool(
    "prune", False, "Show the folders of --workdir that no finished run uses, and remove them."
)
_YES = flags.DEFINE_bool("yes", False, "Remove what --prune shows without asking.")


_QUESTIONS = (_LIST, _SHOW, _DESCRIBE, _DRY_RUN, _PRUNE)


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    if _LIST.value:
        print(describe.list_configs())
        return
    if _PRUNE.value:
        _prune(open_folder(_WORKDIR.value))
        return
    name = _CONFIG.value
    if (_SHOW.value or _DESCRIBE.value) and not _from_pipeline(overrides):
        _print_config(named_config(name, overrides))
        return

    from vidpref.generation.adopt import load_config

    config = load_config(name, overrides)
    if _SHOW.value or _DESCRIBE.value:
        _print_config(config)
        return
    workdir = open_folder(_WORKDIR.value)
    command_line.start_devices(workdir, [config])
    from vidpref.runs import report, rounds
    from vidpref.runs import workdir as workdirs

    if _DRY_RUN.value:
        print(rounds.dry_run(config, workdir))
        return
    with workdirs.locked(workdir):
        done = rounds.run(config, workdir)
        path = report.write_run_report(done, command=shlex.join(["python", *sys.argv]))
    print(f"report: {address(path)}")


def _check_flags(overrides: Sequence[str]) -> None:
    """Refuses what is missing, and what would be ignored; all of it together.

    --workdir may stand beside --show and --describe, which are put behind the command of a run.
    """
    wrong = []
    asked = [f"--{flag.name}" for flag in _QUESTIONS if flag.value]
    if len(asked) > 1:
        wrong.append(f"{' and '.join(asked)}: give one of them.")
    if _YES.value and not _PRUNE.value:
        wrong.append("--yes goes with --prune.")
    about_all = _LIST.value or _PRUNE.value
    if not about_all and not _CONFIG.value:
        wrong.append("--config=NAME[:SCALE] is missing; --list shows the names.")
    if not (_LIST.value or _SHOW.value or _DESCRIBE.value) and not _WORKDIR.value:
        wrong.append("--workdir=FOLDER is missing.")
    if about_all:
        given = ["--config"] if _CONFIG.value else []
        given += ["--workdir"] if _LIST.value and _WORKDIR.value else []
        given += [f"--config.{override.partition('=')[0]}" for override in overrides]
        wrong += [f"{name} does nothing beside {asked[0]}: leave it out." for name in given]
    if wrong and _CONFIG.value and not about_all and not _from_pipeline(overrides):
        try:
            named_config(_CONFIG.value, overrides)
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise app.UsageError("\n".join(wrong))


def _from_pipeline(overrides: Sequence[str]) -> bool:
    return any(o.startswith("model.init=") and o != "model.init=" for o in overrides)


def _print_config(config) -> None:
    if _DESCRIBE.value:
        print(describe.describe_config(config, _DESCRIBE.value))
    else:
        print(describe.show_config(config))


def _prune(workdir: Path) -> None:
    from vidpref.runs import workdir as workdirs

    if not workdir.is_dir():
        raise ValueError(f"--workdir={workdir} is no folder")
    with workdirs.locked(workdir):
        paths = workdirs.unused(workdir)
        if not paths:
            print(f"{workdir}: every folder is used by a finished run")
            return
        print(workdirs.unused_text(paths))
        if not (_YES.value or _confirmed(len(paths))):
            print("nothing removed; --yes removes them")
            return
        workdirs.remove(paths)
    print(f"removed {len(paths)} folders")


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"remove these {count} folders? [y/N] ").strip().lower() in ("y", "yes")


if __name__ == "__main__":
    command_line.launch(main, optional_value=("describe",))
