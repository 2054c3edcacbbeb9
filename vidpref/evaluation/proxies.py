"""A judge that policies were trained by against the truth about their clips.

The judge is a proxy: a policy that learns from its scores may gain in them and not in what they
stand for ("Scaling Laws for Reward Model Overoptimization", Gao et al. 2023). Where a verifier
knows the truth, both score the same clips.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vidpref.datasets.preferences import OVERALL
from vidpref.evaluation.correlation import correlation, correlation_within
from vidpref.evaluation.intervals import clustered_mean
from vidpref.evaluation.rounds import title
from vidpref.evaluation.statistics import clusters, dimensions_of, paired
from vidpref.evaluation.tables import SPLITS, Decimals, Estimate, Table

_ORDER = ("test", "validation", "train")
_KEYS = ("policy", "split", "prompt", "scene_id", "sample")


def proxy_json(judge: pd.DataFrame, truth: pd.DataFrame, baseline: str) -> dict[str, Any]:
    """Returns what a judge and the truth say of policies, dimension by dimension.

    Dimensions are those that both score. The judge's overall score stands against the mean of the
    truth in them. Where they have none in common, as metrics and the truth, each of the judge's
    stands against acceptance; so does the "accept" of a judge that says nothing else.

    Args:
        judge: one row a clip, as `statistics.evaluation_json` takes it, with the judge's own
            scores, of any range.
        truth: the same clips with true scores, of [0, 1].
        baseline: policy that the others are compared to.

    Returns:
        `{SPLIT: {DIMENSION: {POLICY: {"judge": mean, "truth": mean, "pearson", "spearman",
        "pearson_within", "spearman_within"}}}}`, means as `{"mean", "ci": [lo, hi]}`; of other
        policies than the baseline there are "judge_gain" and "truth_gain" too, `{"diff", "ci"}`
        clip by clip of the same noise. Correlations are over the policy's clips, and, "within",
        over what these have above the mean of their prompt, as pairs of a prompt's clips do;
        None where either scores all of them alike.

    Raises:
        ValueError: other clips, or a judge that scores nothing.
    """
    keys = [key for key in _KEYS if key in judge]
    if not judge[keys].equals(truth[keys]):
        raise ValueError("judge and truth did not score the same clips in the same order")
    names = [name for name in dimensions_of(judge) if name in dimensions_of(truth)]
    if not names:
        names = [name for name in dimensions_of(judge) if name != OVERALL]
        truth = truth.assign(**{name: truth["accept"] for name in names})
    if not names and "accept" in judge:
        names = ["accept"]
    if not names:
        raise ValueError("the judge scores nothing that the truth could stand beside")
    if OVERALL in judge:
        truth = truth.assign(**{OVERALL: truth[names].mean(axis=1)})
        names.append(OVERALL)
    splits = [s for s in _ORDER if s in set(judge["split"])]
    found: dict[str, Any] = {}
    for split in splits:
        sides = [side[side["split"] == split] for side in (judge, truth)]
        found[split] = {name: _of_policies(*sides, name, baseline) for name in names}
    return found


def proxy_table(found: Mapping[str, Any]) -> Table:
    """Returns judge beside truth, a row for each split, dimension and policy.

    Args:
        found: result of `proxy_json`.
    """
    rows = []
    for split, dimensions in found.items():
        for name, policies in dimensions.items():
            for policy, entry in policies.items():
                cells = [
                    _mean(entry["judge"], percent=False),
                    _gain(entry.get("judge_gain"), percent=False),
                    _mean(entry["truth"], percent=True),
                    _gain(entry.get("truth_gain"), percent=True),
                ]
                words = name.replace("_", " ").capitalize()
                rs = (entry["pearson"], entry["pearson_within"])
                cells += [None if r is None else Decimals(r) for r in rs]
                rows.append([SPLITS[split], words, title(policy), *cells])
    columns = ["Prompts", "Dimension", "Policy", "Judge", "Judge's gain", "Truth", "True gain"]
    return Table(
        "The judge against the truth",
        [*columns, "Correlation", "Within prompts"],
        rows,
        "The judge as it scores (normalised scores count deviations), the truth in points of 100; "
        "gains over the pre-trained policy, clip by clip, with 95 % intervals over prompts; "
        "Pearson's correlation over the clips of a policy, and within prompts: of what clips have "
        "above the mean of their prompt, which is what pairs of them show. A policy that gains by "
        "the judge and not in truth has learnt the judge's mistakes. Beside metrics the truth is "
        "acceptance.",
    )


def _of_policies(
    judge: pd.DataFrame, truth: pd.DataFrame, name: str, baseline: str
) -> dict[str, Any]:
    low, high = float(judge[name].min()), float(judge[name].max())
    bounds = {"judge": (low, max(high, low + 1e-6)), "truth": (0.0, 1.0)}
    sides = {"judge": judge, "truth": truth}
    found: dict[str, Any] = {}
    for policy in judge["policy"].unique():
        entry: dict[str, Any] = {}
        own = {key: side[side["policy"] == policy] for key, side in sides.items()}
        for key, rows in own.items():
            values = rows[name].to_numpy(np.float64)
            interval = clustered_mean(values, *clusters(rows), bounds=bounds[key])
            entry[key] = {"mean": interval.mean, "ci": [interval.low, interval.high]}
            if policy != baseline:
                entry[f"{key}_gain"] = _difference(sides[key], policy, baseline, name, bounds[key])
        scores = [own[key][name].to_numpy(np.float64) for key in ("judge", "truth")]
        of = {"": correlation(*scores), "_within": correlation_within(*scores, clusters(rows)[0])}
        for end, r in of.items():
            entry[f"pearson{end}"] = None if np.isnan(r.pearson) else r.pearson
            entry[f"spearman{end}"] = None if np.isnan(r.spearman) else r.spearman
        found[policy] = entry
    return found


def _difference(
    frame: pd.DataFrame, policy: str, baseline: str, name: str, bounds: tuple[float, float]
) -> dict[str, Any]:
    pairs = paired(frame, policy, baseline, name, bounds)
    width = bounds[1] - bounds[0]
    values = pairs["difference"].to_numpy(np.float64)
    interval = clustered_mean(values, *clusters(pairs), bounds=(-width, width))
    return {"diff": interval.mean, "ci": [interval.low, interval.high]}


def _mean(entry: Mapping[str, Any], *, percent: bool) -> Estimate:
    return Estimate(entry["mean"], *entry["ci"], percent=percent)


def _gain(entry: Mapping[str, Any] | None, *, percent: bool) -> Estimate | None:
    if entry is None:
        return None
    return Estimate(entry["diff"], *entry["ci"], signed=True, percent=percent)
