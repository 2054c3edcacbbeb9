"""What a better judge is worth to the generator that it trains.

    JAX_PLATFORMS=cpu python benchmarks/judged_generators.py --workdir=runs/judged   # some hours
    JAX_PLATFORMS=cpu python benchmarks/judged_generators.py --workdir=runs/judged --seeds=0
    JAX_PLATFORMS=cpu python benchmarks/judged_generators.py --workdir=runs/judged --judges=ipo
    JAX_PLATFORMS=cpu python benchmarks/judged_generators.py --workdir=runs/judged --judges=mcsc

Flow-DPO on clips of the same generator, labelled by the verifier, by a VideoReward that learnt from
its verdicts (`videoalign:mini`), and by one for which three of ten verdicts were turned; with
--judges=ipo, a round of IPO on grades of the verifier, three on those of the critic of `ipo:mini`,
and one on those of a critic of half its width; with --judges=mcsc, McSc's McDPO and DPO on grades
of the judge of `mcsc:mini`, and McDPO on the verifier's. The verifier scores the last clips of all.
What is there is not made again. The rule for verdicts is that of docs/claims.md, over the claims of
this table, in the mean of three graded scores.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import flags
from claimed.judged_generators import BEFORE, GROUPS, SCORES, gain_table, named, verdict_table

from vidpref.runs import command_line as program

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
_JUDGES = flags.DEFINE_enum("judges", "scores", list(GROUPS), "Judges that score, or answer.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Training seeds.")


def main(overrides: Sequence[str]) -> None:
    workdir = Path(_WORKDIR.value)
    seeds = [int(seed) for seed in _SEEDS.value]
    program.start_devices(workdir)
    group, frames, right = GROUPS[_JUDGES.value], {}, {}
    for seed in seeds:
        for name, (config, *changed) in group.settings.items():
            own = [*changed, *overrides, f"seed={seed}", "search=()"]
            rounds = group.rounds.get(name, 1)
            before, *after, accuracy = _trained(workdir / f"seed{seed}", config, own, rounds)
            frames[BEFORE, seed] = before
            for round_, found in enumerate(after, 1):
                frames[named(name, round_), seed] = found
            right[name, seed] = accuracy
    print(gain_table(group, frames, right, seeds).to_markdown(), end="\n\n")
    print(verdict_table(group, frames, seeds).to_markdown())


def _trained(
    workdir: Path, spec: str, overrides: Sequence[str], rounds: int
) -> tuple[pd.DataFrame | float, ...]:
    """Clips of held-out prompts before and after each round, scored by the verifier; and the mean
    share of the held-out pairs that the judge orders right, NaN of the verifier."""
    from vidpref.rewards.registry import JUDGE
    from vidpref.runs import compare
    from vidpref.runs.methods import open_recipe
    from vidpref.runs.policies import PRETRAINED, policy_name
    from vidpref.stages.judge_held_out import ACCOUNT

    (config,) = compare.load_configs([spec.partition(":")[0]], "mini", overrides)
    found = compare.compare([config], workdir, seeds=1, rounds=rounds).frame
    found = found[found["split"] == "test"]
    keys = ["prompt", "scene_id", "sample"]
    names = [PRETRAINED, *(policy_name(config, round_) for round_ in range(1, rounds + 1))]
    frames = [
        found[found["policy"] == name].sort_values(keys).reset_index(drop=True) for name in names
    ]
    folder = open_recipe(config, workdir).judge_folders.get(JUDGE)
    if folder is None:
        return *frames, np.nan
    account = json.loads((folder / ACCOUNT).read_text())["test"]
    return *frames, float(np.mean([account[name]["accuracy"] for name in SCORES]))


if __name__ == "__main__":
    program.launch(main)
