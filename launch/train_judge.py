"""Trains a judge, a vision-language model that scores videos, on a file of preferences.

    python launch/train_judge.py --config=videoreward --workdir=runs/videoreward \\
        --config.judge.base=Qwen2-VL-2B-Instruct --config.data.pairs=pairs.csv

--config=NAME[:SCALE] names a file of configs/judges/; --config.FIELD=VALUE overrides any field that
counts, e.g. --config.judge.loss=bt. Layouts of preferences are those of launch/tpu_run.py. A run
that was stopped goes on where it was when the same command is given again; on a pod the same
command is started on every host. The last line printed is `judge: FOLDER`: the model in the layout
of VideoAlign's, with the mean and deviation of its scores on validation prompts. The folder is what
--config.reward.video_reward.folder and launch/score.py --judge take; judge.json beside it has the
accuracy on held-out prompts, and scores.parquet their scores.
"""

from collections.abc import Sequence

from absl import app, flags

from vidpref.config import describe
from vidpref.config.by_name import named_config
from vidpref.runs import command_line
from vidpref.storage.mirror import address, open_folder

_CONFIG = flags.DEFINE_string("config", None, "Config by name: NAME[:SCALE] of configs/judges/.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run, or gs://BUCKET/FOLDER; made if missing."
)
_SHOW = flags.DEFINE_bool("show", False, "Print the config with its overrides and stop.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print which stages would run, and why, and stop.")


def main(overrides: Sequence[str]) -> None:
    wrong = [] if _CONFIG.value else ["--config=NAME[:SCALE] is missing, such as videoreward."]
    if not _WORKDIR.value and not _SHOW.value:
        wrong.append("--workdir=FOLDER is missing.")
    if wrong:
        raise app.UsageError("\n".join(wrong))
    config = named_config(_CONFIG.value, overrides)
    if _SHOW.value:
        print(describe.show_config(config))
        return
    workdir = open_folder(_WORKDIR.value)
    command_line.start_devices(workdir, [config])
    from vidpref.runs import judge_run
    from vidpref.runs import workdir as workdirs

    if _DRY_RUN.value:
        print(judge_run.dry_run(config, workdir))
        return
    with workdirs.locked(workdir):
        path = judge_run.run(config, workdir)
    print(f"judge: {address(path)}")


if __name__ == "__main__":
    command_line.launch(main)
