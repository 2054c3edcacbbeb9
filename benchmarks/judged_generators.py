"""What a better judge is worth to the generator that it trains.

    JAX_PLATFORMS=cpu python benchmarks/judged_generators.py --workdir=runs/judged   # some hours
    JAX_PLATFORMS=cpu python benchmarks/judged_generators.py --workdir=runs/judged --seeds=0

Flow-DPO on clips of the same generator, labelled by the verifier, by a VideoReward that learnt from
its verdicts (`videoalign:mini`), and by one for which three of ten verdicts were turned. The
verifier scores the last clips of all. What is there is not made again. The rule for verdicts is
that of docs/claims.md, over the claims of this table, in the mean of three graded scores.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import flags

from vidpref.evaluation.intervals import clustered_spread
from vidpref.evaluation.tables import Estimate, Table
from vidpref.evaluation.verdicts import SMALLEST_GRADED, Kind, Measured, verdicts
from vidpref.runs import command_line as program

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.", required=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Training seeds.")

SETTINGS = {
    "the verifier": ("flow_dpo:mini",),
    "a judge": ("videoalign:mini",),
    "a judge, 30 % wrong": ("videoalign:mini", "judge.world.wrong=0.3"),
}
SCORES = ["visual_quality", "motion_quality", "text_alignment"]
BEFORE = "before"
CLAIMS = (
    ("A judge makes the generator better", "a judge", BEFORE),
    ("A judge with 30 % wrong labels does", "a judge, 30 % wrong", BEFORE),
    ("A judge of right labels is worth more", "a judge", "a judge, 30 % wrong"),
    ("The truth is worth more than a judge", "the verifier", "a judge"),
)
Frames = Mapping[tuple[str, int], pd.DataFrame]


def main(overrides: Sequence[str]) -> None:
    workdir = Path(_WORKDIR.value)
    seeds = [int(seed) for seed in _SEEDS.value]
    program.start_devices(workdir)
    frames, right = {}, {}
    for seed in seeds:
        for name, (config, *changed) in SETTINGS.items():
            own = [*changed, *overrides, f"seed={seed}", "search=()"]
            before, after, accuracy = _trained(workdir / f"seed{seed}", config, own)
            frames[BEFORE, seed] = before
            frames[name, seed] = after
            right[name, seed] = accuracy
    print(_gains(frames, right, seeds).to_markdown(), end="\n\n")
    print(_verdicts(frames, seeds).to_markdown())


def _trained(
    workdir: Path, spec: str, overrides: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """Clips of held-out prompts before and after, scored by the verifier; and the mean share of the
    held-out pairs that the judge orders right, NaN of the verifier."""
    from vidpref.rewards.registry import JUDGE
    from vidpref.runs import compare
    from vidpref.runs.methods import open_recipe
    from vidpref.runs.policies import PRETRAINED
    from vidpref.stages.judge_held_out import ACCOUNT

    (config,) = compare.load_configs([spec.partition(":")[0]], "mini", overrides)
    found = compare.compare([config], workdir, seeds=1, rounds=1).frame
    found = found[found["split"] == "test"]
    keys = ["prompt", "scene_id", "sample"]
    before, after = (
        own.sort_values(keys).reset_index(drop=True)
        for own in (found[found["policy"] == PRETRAINED], found[found["policy"] != PRETRAINED])
    )
    folder = open_recipe(config, workdir).judge_folders.get(JUDGE)
    if folder is None:
        return before, after, np.nan
    account = json.loads((folder / ACCOUNT).read_text())["test"]
    return before, after, float(np.mean([account[name]["accuracy"] for name in SCORES]))


def _differences(
    frames: Frames, one: str, other: str, seeds: Sequence[int], scores: Sequence[str]
) -> Measured:
    """Clip by clip of the same noise, clustered by prompt and seed."""
    values, prompts, owners = [], [], []
    for seed in seeds:
        ours, theirs = frames[one, seed], frames[other, seed]
        keys = ["prompt", "scene_id", "sample"]
        if not ours[keys].equals(theirs[keys]):
            raise ValueError(f"{one} and {other} have other clips, seed {seed}")
        values.append((ours[list(scores)] - theirs[list(scores)]).mean(axis=1))
        prompts.append(ours["prompt"])
        owners.append(np.full(len(ours), seed))
    flat = np.concatenate(values)
    spread = clustered_spread(flat, pd.factorize(pd.concat(prompts))[0], np.concatenate(owners))
    return Measured(float(flat.mean()), spread, SMALLEST_GRADED)


def _gains(frames: Frames, right: Mapping[tuple[str, int], float], seeds: Sequence[int]) -> Table:
    rows = []
    for name in SETTINGS:
        cells = []
        for scores in (SCORES, ["accept"]):
            found = _differences(frames, name, BEFORE, seeds, scores)
            cells.append(Estimate(found.mean, *found.ends(), signed=True))
        pairs = 100 * np.mean([right[name, seed] for seed in seeds])
        rows.append([name, "" if np.isnan(pairs) else f"{pairs:.1f}", len(seeds), *cells])
    columns = ["Labels of", "Held-out pairs ordered right, %", "Seeds", "Mean score", "Accepted"]
    return Table("Gain of held-out prompts by the verifier, points", columns, rows)


def _verdicts(frames: Frames, seeds: Sequence[int]) -> Table:
    measured = [_differences(frames, one, other, seeds, SCORES) for _, one, other in CLAIMS]
    rows = []
    said = verdicts([Kind.SUPERIOR] * len(CLAIMS), measured)
    for (text, *_), found, verdict in zip(CLAIMS, measured, said, strict=True):
        points = Estimate(found.mean, *found.ends(), signed=True)
        rows.append([text, points, len(seeds), str(verdict)])
    columns = ["Claim", "Points of the mean score", "Seeds", "Verdict"]
    return Table("Verdicts on what judges are worth", columns, rows)


if __name__ == "__main__":
    program.launch(main)
