"""What small judges learn: those that score, and those that answer in words.

    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/judges           # some 100 minutes
    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/judges --seeds=0 # to try it
    JAX_PLATFORMS=cpu python benchmarks/judges.py --workdir=runs/words --judges=words

Every judge is `launch/train_judge.py --config=videoreward:mini`, in words `critic:mini`, with one
thing changed: losses, amounts of data, tokens, wrong labels; widths, reasons, and McSc's phases on
own answers. It is asked about the same pairs of held-out prompts of the mini world. A judge that is
there is not trained again. The rule for verdicts is that of docs/claims.md, over the claims of this
table; the smallest effect worth naming is 3 points of pairs.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import flags
from claimed.judges import (
    GROUPS,
    JudgeGroup,
    accuracy_table,
    comparison_table,
    tie_table,
    verdict_table,
)

from vidpref.runs import command_line as program

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
            found, own = _judged(workdir, seed, group, (*changed, *overrides))
            frames[name, seed] = found
            compared |= {(name, seed): own} if own else {}
    print(accuracy_table(group, frames, seeds).to_markdown(), end="\n\n")
    if group.ties:
        print(tie_table(group, frames, seeds).to_markdown(), end="\n\n")
    if compared:
        print(comparison_table(group, compared, seeds).to_markdown(), end="\n\n")
    print(verdict_table(group, frames, seeds).to_markdown())


def _judged(
    workdir: Path, seed: int, group: JudgeGroup, changed: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The held-out pairs: prompt, dimension, verdict, and the judge's margin; and how it compares
    two clips as a whole, {} where it is not asked for that."""
    from vidpref.config.by_name import named_config
    from vidpref.runs import judge_run
    from vidpref.runs.judge_recipe import JudgeRecipe

    config = named_config(group.config, [f"seed={seed}", *changed])
    own = workdir / f"seed{seed}"
    folder = judge_run.run(config, own).parent
    scores = pd.read_parquet(folder / "scores.parquet")
    scores = scores[scores["split"] == "test"].set_index("clip")
    world = JudgeRecipe(config, own).frames.folder
    pairs = pd.read_parquet(own / world / "comparisons.parquet")
    pairs = pairs[pairs["clip_a"].isin(scores.index)]
    margins = [
        scores.at[a, name] - scores.at[b, name]
        for a, b, name in zip(pairs["clip_a"], pairs["clip_b"], pairs["dimension"], strict=True)
    ]
    account = json.loads((folder / "judge.json").read_text(encoding="utf-8"))["test"]
    chosen = pairs[["clip_a", "clip_b", "prompt", "dimension", "verdict"]]
    return chosen.assign(margin=margins), account.get("comparisons", {})


if __name__ == "__main__":
    program.launch(main)
