"""Measures the claims of the papers about alignment objectives on the mini world.

    python benchmarks/claims.py --workdir=runs/claims                             # all, five seeds
    python benchmarks/claims.py --workdir=runs/claims --only=beta,ipo --seeds=3,4 # some
    python benchmarks/claims.py --only_tables                                     # no runs

Each group of claims is a comparison, as `launch/compare.py` makes it, of policies that share
pre-training and labels. The scores of every clip go into the folder --scores, a few MB for all, and
what is there is not run again: seeds and groups can be measured one after another, on several
machines, and tables, verdicts and pictures are made of the folder alone. The groups are in
`benchmarks/claimed/`, the rule for verdicts in `vidpref/evaluation/verdicts.py`. OUT gets claims.md
and its pictures; the tables are always those of all groups; with --config overrides, of those that
are run. In a claims.md that is there only what stands between its marks is written anew:
`--only_tables --out=docs` renews docs/claims.md.

The groups `feedback` and `feedback_steps` learn from metrics too, by the models in --metrics, which
`benchmarks/mini_clip.py` trains. The scores are those of these very files: they are kept together.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line as program
from vidpref.storage.mirror import open_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs; made if it does not exist.")
_SCORES = flags.DEFINE_string("scores", "docs/claims_scores", "Folder of the scores of all clips.")
_OUT = flags.DEFINE_string("out", None, "Folder of tables and pictures; the work directory.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Training seeds.")
_ONLY = flags.DEFINE_list("only", [], "Groups to run, separated by commas; none means all.")
_METRICS = flags.DEFINE_string(
    "metrics", None, "Folder of mini_clip.py's models; by default `metrics` in that of the scores."
)
_CLIPS = flags.DEFINE_integer("clips_per_prompt", 8, "Clips of a prompt.", lower_bound=1)
_ONLY_TABLES = flags.DEFINE_bool("only_tables", False, "Runs nothing: tables of the scores there.")


def main(overrides: Sequence[str]) -> None:
    from claimed.groups import GROUPS

    seeds = _check(GROUPS)
    workdir = open_folder(_WORKDIR.value or _OUT.value or _SCORES.value)
    out = Path(_OUT.value) if _OUT.value else workdir
    program.start_devices(workdir)

    from claimed import measuring, writing
    from claimed.scores import Scores

    from vidpref.runs.rounds import say
    from vidpref.runs.workdir import locked

    scores = Scores(Path(_SCORES.value))
    only = _ONLY.value or list(GROUPS)
    # overrides need not fit the configs of other groups
    groups = {name: GROUPS[name] for name in only} if overrides else GROUPS
    metrics = Path(_METRICS.value) if _METRICS.value else scores.folder / "metrics"
    configs = {
        name: measuring.load_configs(group, overrides, _CLIPS.value, metrics)
        for name, group in groups.items()
    }
    if not _ONLY_TABLES.value:
        measuring.check_models({name: configs[name] for name in only})
        with locked(workdir):
            for name in only:
                for seed in seeds:
                    say(f"{name}, seed {seed}")
                    args = (groups[name], configs[name], seed, workdir, scores, say)
                    measuring.measure(*args)
    evidence = writing.stored(groups, configs, seeds, workdir, scores, say=say)
    print(writing.write(out, groups, evidence))


def _check(groups: Mapping) -> list[int]:
    wrong = []
    if not (_WORKDIR.value or _ONLY_TABLES.value):
        wrong.append("--workdir=FOLDER is missing.")
    known = ", ".join(groups)
    wrong += [f"--only={name}: known are {known}" for name in _ONLY.value if name not in groups]
    bad = [text for text in _SEEDS.value if not text.strip().isdecimal()]
    if bad:
        wrong.append(f"--seeds={bad[0]}: numbers from 0 on, separated by commas")
    if wrong:
        raise app.UsageError("\n".join(wrong))
    return sorted({int(text) for text in _SEEDS.value})


if __name__ == "__main__":
    program.launch(main)
