"""Whose labels generators learn from, and the tables of it (benchmarks/judged_generators.py).

A frame has the clips of held-out prompts after one alignment: prompt, scene_id, sample, and the
verifier's scores; frames are by (setting, seed), those of the base by (BEFORE, seed).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from claimed.judges import HALF_WIDTH
from vidpref.evaluation.intervals import clustered_spread
from vidpref.evaluation.tables import Estimate, Table
from vidpref.evaluation.verdicts import SMALLEST_GRADED, Kind, Measured, verdicts


@dataclasses.dataclass(frozen=True)
class Judged:
    """Generators that differ by whose labels they learnt from, and what is claimed of them.

    Attributes:
        settings: name -> (config, *overrides); the first learns from the verifier.
        claims: text, setting, against which.
        rounds: of a setting that has more than one, each of which is a row of its own, see `named`.
    """

    settings: Mapping[str, tuple[str, ...]]
    claims: tuple[tuple[str, str, str], ...]
    rounds: Mapping[str, int] = dataclasses.field(default_factory=dict)


def named(setting: str, round_: int) -> str:
    """Returns what a setting is called after a round."""
    return setting if round_ == 1 else f"{setting}, round {round_}"


SCORES = ["visual_quality", "motion_quality", "text_alignment"]
BEFORE = "before"
_TRUTH = "the verifier"
SCORING = Judged(
    {
        _TRUTH: ("flow_dpo:mini",),
        "a judge": ("videoalign:mini",),
        "a judge, 30 % wrong": ("videoalign:mini", "judge.world.wrong=0.3"),
    },
    (
        ("A judge makes the generator better", "a judge", BEFORE),
        ("A judge with 30 % wrong labels does", "a judge, 30 % wrong", BEFORE),
        ("A judge of right labels is worth more", "a judge", "a judge, 30 % wrong"),
        ("The truth is worth more than a judge", _TRUTH, "a judge"),
    ),
)
ANSWERING = Judged(
    {
        _TRUTH: ("ipo_dpo:mini", "evaluate.train_prompts=50"),
        "a critic": ("ipo:mini",),
        "a critic of half the width": ("ipo:mini", *HALF_WIDTH),
    },
    (
        ("A critic makes the generator better", "a critic", BEFORE),
        (
            "A larger critic is worth more (IPO Table 7: 82.52 against 82.42 of VBench)",
            *("a critic", "a critic of half the width"),
        ),
        (
            "Round 2 improves (IPO Table 3: 82.42 after 81.69 of VBench)",
            *(named("a critic", 2), "a critic"),
        ),
        (
            "Round 3 improves (IPO Table 3: 82.74 after 82.42)",
            *(named("a critic", 3), named("a critic", 2)),
        ),
        ("The truth is worth more than a critic", _TRUTH, "a critic"),
    ),
    rounds={"a critic": 3},
)
_NO_SCDR, _NO_HCR = (f"judge.{phase}.enabled=False" for phase in ("reasoning", "hierarchy"))
REASONING = Judged(
    {
        _TRUTH: ("mcdpo:mini", "label.prompts=200", "evaluate.train_prompts=25"),
        "reasons, McDPO": ("mcsc:mini",),
        "reasons, DPO": ("mcsc:mini", "align.object_motion=0.0", "align.camera_motion=0.0"),
        "without ScDR, McDPO": ("mcsc:mini", _NO_SCDR),
        "without HCR, McDPO": ("mcsc:mini", _NO_HCR),
        "without both, McDPO": ("mcsc:mini", _NO_SCDR, _NO_HCR),
        "no reasons, McDPO": ("mcsc:mini", "reward.vlm_judge.answers=probabilities"),
    },
    (
        ("McDPO on a judge with reasons makes the generator better", "reasons, McDPO", BEFORE),
        ("McDPO is worth more than DPO (McSc Tables 2, 3)", "reasons, McDPO", "reasons, DPO"),
        ("Reasons are worth something (McSc Fig. 6)", "reasons, McDPO", "no reasons, McDPO"),
        ("ScDR is worth something (McSc Fig. 6)", "reasons, McDPO", "without ScDR, McDPO"),
        ("HCR is worth something (McSc Fig. 6)", "reasons, McDPO", "without HCR, McDPO"),
        ("The truth is worth more than a judge with reasons", _TRUTH, "reasons, McDPO"),
    ),
)
GROUPS = {"scores": SCORING, "ipo": ANSWERING, "mcsc": REASONING}
Frames = Mapping[tuple[str, int], pd.DataFrame]


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


def gain_table(
    group: Judged, frames: Frames, right: Mapping[tuple[str, int], float], seeds: Sequence[int]
) -> Table:
    rows = []
    for setting in group.settings:
        pairs = 100 * np.mean([right[setting, seed] for seed in seeds])
        for round_ in range(1, group.rounds.get(setting, 1) + 1):
            name, cells = named(setting, round_), []
            for scores in (SCORES, ["object_motion"], ["accept"]):
                found = _differences(frames, name, BEFORE, seeds, scores)
                cells.append(Estimate(found.mean, *found.ends(), signed=True))
            rows.append([name, "" if np.isnan(pairs) else f"{pairs:.1f}", len(seeds), *cells])
    columns = ["Labels of", "Held-out pairs ordered right, %", "Seeds", "Mean score"]
    columns += ["Object motion", "Accepted"]
    return Table("Gain of held-out prompts by the verifier, points", columns, rows)


def verdict_table(group: Judged, frames: Frames, seeds: Sequence[int]) -> Table:
    measured = [_differences(frames, one, other, seeds, SCORES) for _, one, other in group.claims]
    rows = []
    said = verdicts([Kind.SUPERIOR] * len(group.claims), measured)
    for (text, *_), found, verdict in zip(group.claims, measured, said, strict=True):
        points = Estimate(found.mean, *found.ends(), signed=True)
        rows.append([text, points, len(seeds), str(verdict)])
    columns = ["Claim", "Points of the mean score", "Seeds", "Verdict"]
    return Table("Verdicts on what judges are worth", columns, rows)
