"""Compares alignment methods on equal terms, over several seeds.

    python launch/compare.py --configs=sft_aif,rwr_aif,dpo_aif --scale=mini --seeds=3 \\
        --workdir=runs/compare

Configs can be compared that start from the same generator, and variants of one:
--configs=flow_dpo,flow_dpo+align.time_power=2,mcdpo.
One pre-training and one labelled set a seed are shared by the methods; hyper-parameters are
chosen on validation prompts (the configs' `search` section). WORKDIR gets comparison.md and
comparison.tex (the paper's Table 2 and Figure 5, and every method minus every other, with intervals
over seeds and prompts), the same tables as CSV, differences.csv, evaluation.csv and .json, and
report.html. Without a judge (--config.reward.name=none) they are tables of training, and the page
shows clips side by side. A stopped comparison goes on when the same command is given again.
"""

import shlex
import sys
from collections.abc import Sequence

from absl import app, flags

from vidpref.runs import command_line as program
from vidpref.storage.mirror import address, open_folder

_CONFIGS = flags.DEFINE_list("configs", None, "Names in configs/, separated by commas.")
_SCALE = flags.DEFINE_string(
    "scale", "mini", "Scale of every config: mini, paper, or a backbone's."
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Training seeds, from config.seed on.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Rounds of every method.", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this comparison, or gs://BUCKET/FOLDER.")


def main(overrides: Sequence[str]) -> None:
    wanted = {"--configs=NAME,NAME,...": _CONFIGS, "--workdir=FOLDER": _WORKDIR}
    wrong = [f"{text} is missing." for text, flag in wanted.items() if not flag.value]
    if any(override.partition("=")[0] == "rounds" for override in overrides):
        wrong.append("--config.rounds does nothing here: give --rounds.")
    if wrong:
        raise app.UsageError("\n".join(wrong))

    from vidpref.coordination.agreeing import first_host
    from vidpref.runs import compare, report
    from vidpref.runs.rounds import say
    from vidpref.runs.workdir import locked

    configs = compare.load_configs(_CONFIGS.value, _SCALE.value, overrides)
    workdir = open_folder(_WORKDIR.value)
    program.start_devices(workdir, configs)
    with locked(workdir):
        found = compare.compare(configs, workdir, seeds=_SEEDS.value, rounds=_ROUNDS.value)
        command = shlex.join(["python", *sys.argv])
        path = report.write_comparison_report(found, configs, workdir, command=command)
        if first_host():  # which alone has written what the summary is read from
            say(report.comparison_summary(found, workdir))
    print(f"report: {address(path)}")


if __name__ == "__main__":
    program.launch(main)
