"""What small judges learn: those that score, and those that answer in words.

    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/judges           # some 100 minutes
    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/judges --seeds=0 # to try it
    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/words --judges=words
    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/judged --judges=ipo
    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/judged --judges=mcsc

Every judge is `launch/train_judge.py --config=videoreward:mini`, in words `critic:mini`, with one
thing changed: losses, amounts of data, tokens, wrong labels; widths, reasons, and McSc's phases on
own answers. Those of `ipo:mini` and `mcsc:mini` learn from clips that the run's generator drew, and
are those of `benchmarks/judged_generators.py` in the same work directory. All are asked about the
same pairs of held-out prompts of the mini world. A judge that is there is not trained again. The
rule for verdicts is that of docs/claims.md, over the claims of this table; the smallest effect
worth naming is 3 points of pairs.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags
from claimed.judges import (
    DIMENSIONS,
    GROUPS,
    JudgeGroup,
    accuracy_table,
    comparison_table,
    tie_table,
    verdict_table,
)
from ml_collections import ConfigDict

from vidpref.runs import command_line as program
from vidpref.runs.graph import Stage, in_order, run_stage

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the judges.", required=True)
_JUDGES = flags.DEFINE_enum("judges", "scores", list(GROUPS), "Which judges.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of data, weights and order.")


def main(overrides: Sequence[str]) -> None:
    workdir = Path(_WORKDIR.value)
    seeds = [int(seed) for seed in _SEEDS.value]
    program.start_devices(workdir)
    group, frames, compared = GROUPS[_JUDGES.value], {}, {}
    for seed in seeds:
        for name, changed in group.settings.items():
            found, own = _judged(workdir, seed, group, name, (*changed, *overrides))
            frames[name, seed] = found
            compared |= {(name, seed): own} if own else {}
    print(accuracy_table(group, frames, seeds).to_markdown(), end="\n\n")
    if group.ties:
        print(tie_table(group, frames, seeds).to_markdown(), end="\n\n")
    if compared:
        print(comparison_table(group, compared, seeds).to_markdown(), end="\n\n")
    print(verdict_table(group, frames, seeds).to_markdown())


def _judged(
    workdir: Path, seed: int, group: JudgeGroup, name: str, changed: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The held-out pairs: prompt, dimension, verdict, and the judge's margin; and how it compares
    two clips as a whole, {} where it is not asked for that."""
    from vidpref.config.by_name import named_config

    own = workdir / f"seed{seed}"
    last = _stage(named_config(group.config, [f"seed={seed}", *changed]), own)
    if name in group.stages:
        (last,) = (stage for stage in in_order([last]) if stage.name == group.stages[name])
    for stage in in_order([last]):
        run_stage(stage, own, functools.partial(_say, f"{name}, seed {seed}: {stage.name}"))
    scores = pd.read_parquet(own / last.folder / "scores.parquet")
    scores = scores[scores["split"] == "test"].set_index("clip")
    pairs = pd.read_parquet(own / last.inputs["frames"].folder / "comparisons.parquet")
    pairs = pairs[pairs["clip_a"].isin(scores.index) & pairs["dimension"].isin(DIMENSIONS)]
    margins = [
        scores.at[a, dimension] - scores.at[b, dimension]
        for a, b, dimension in pairs[["clip_a", "clip_b", "dimension"]].itertuples(index=False)
    ]
    account = json.loads((own / last.folder / "judge.json").read_text(encoding="utf-8"))["test"]
    chosen = pairs[["clip_a", "clip_b", "prompt", "dimension", "verdict"]]
    return chosen.assign(margin=margins), account.get("comparisons", {})


def _say(title: str, state: str) -> None:
    from vidpref.runs.rounds import say

    say(f"{title}: {state}")


def _stage(config: ConfigDict, workdir: Path) -> Stage:
    """The stage that trains the judge, alone or in a run whose generator draws the clips."""
    from vidpref.config.judge import DRAWN
    from vidpref.rewards.registry import JUDGE
    from vidpref.runs.judge_recipe import JudgeRecipe
    from vidpref.runs.methods import open_recipe

    if config.judge.world.clips == DRAWN:
        return open_recipe(config, workdir).judge_stages[JUDGE]
    return JudgeRecipe(config, workdir).last


if __name__ == "__main__":
    program.launch(main)
