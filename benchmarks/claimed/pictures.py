"""The pictures of the claims: methods over rounds, and scores over steps on a proxy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from claimed.claim import PRETRAINED, after
from claimed.evidence import Evidence
from vidpref.evaluation.tables import SPLITS

_OFFSET = 0.05  # between the methods of a round, so that their intervals stand side by side


def draw_rounds(path: Path, methods: Mapping[str, str], rounds: int, evidence: Evidence) -> bool:
    """Draws acceptance over rounds with 95 % intervals: a line a method, a panel a split.

    Args:
        path: PNG file.
        methods: what they are called -> config.
        rounds: rounds of each.
        evidence: scores of their group.

    Returns:
        Whether there was anything to draw.
    """
    if not evidence.seeds(PRETRAINED):
        return False
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, constrained_layout=True)
    for panel, split in zip(panels, ("test", "train"), strict=True):
        for number, (name, config) in enumerate(methods.items()):
            policies = [PRETRAINED, *(after(config, r) for r in range(1, rounds + 1))]
            there = {r: p for r, p in enumerate(policies) if evidence.seeds(p)}
            found = [evidence.rate(policy, split) for policy in there.values()]
            means = [100 * i.mean for i in found]
            ends = [
                [100 * (i.mean - i.low) for i in found],
                [100 * (i.high - i.mean) for i in found],
            ]
            shift = _OFFSET * (number - (len(methods) - 1) / 2)
            x = [round_ + shift for round_ in there]
            panel.errorbar(x, means, ends, label=name, marker="o", markersize=4, capsize=2)
        panel.set(title=f"{SPLITS[split]} prompts", xlabel="round", xticks=range(rounds + 1))
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("accepted clips, %")
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def draw_steps(
    path: Path,
    proxies: Mapping[int, str],
    evidence: Evidence,
    dimensions: Mapping[str, str],
    steps_of: str,
) -> bool:
    """Draws the proxy and what it stands for over training steps: the mean and every seed.

    Args:
        path: PNG file.
        proxies: steps -> config.
        evidence: scores of their group.
        dimensions: what is drawn -> what it is called.
        steps_of: whose steps they are.

    Returns:
        Whether there was anything to draw.
    """
    points = {0: PRETRAINED, **proxies}
    if not all(evidence.seeds(policy) for policy in points.values()):
        return False
    figure, axes = plt.subplots(figsize=(6, 4), constrained_layout=True)
    for dimension, name in dimensions.items():
        values = [[100 * x for x in evidence.of_seeds(p, dimension)] for p in points.values()]
        (line,) = axes.plot(list(points), [_mean(v) for v in values], marker="o")
        line.set_label(name)
        for steps, of_seeds in zip(points, values, strict=True):
            axes.plot([steps] * len(of_seeds), of_seeds, ".", alpha=0.5, color=line.get_color())
    axes.set(xlabel=f"steps of {steps_of}", ylabel="held-out prompts, points")
    axes.set_ylim(0, 100)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
