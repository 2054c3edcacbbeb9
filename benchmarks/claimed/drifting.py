"""What policies do on the way: reward, truth and look of their clips over the steps.

Of an online run that watched its clips (align.online.watch) every step has noted what the judge and
the verifier said of those that it learnt from; of any other that kept its checkpoints, each is
asked for the same validation clips here.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from claimed.proxies import mean_of_seeds
from vidpref.config.by_name import apply_overrides
from vidpref.evaluation.tables import Table
from vidpref.generation.cascade import chunked
from vidpref.rewards.registry import verifying
from vidpref.runs import draws
from vidpref.runs.graph import DONE, state_of
from vidpref.runs.methods import open_recipe
from vidpref.runs.policies import Policy
from vidpref.runs.recipe import Recipe
from vidpref.stages import align, label
from vidpref.stages.online.watching import NOTES, looks
from vidpref.stages.sample import seen_clip
from vidpref.training.checkpoints import Checkpoints
from vidpref.typing import PyTree

COLUMNS = {
    "reward": "reward",
    "truth": "accepted by the verifier",
    "look/contrast": "contrast",
    "look/colour": "colour",
    "look/motion": "change from frame to frame",
}


class NoRunError(Exception):
    """There is no run whose steps could be looked at; the message says which."""


def opened(workdir: Path, config: ConfigDict, seed: int) -> tuple[Recipe, Policy]:
    """Returns the recipe and the policy of a run of one round.

    Args:
        workdir: of the runs.
        config: of a group of claims.
        seed: training seed.

    Raises:
        NoRunError: it is not there.
    """
    recipe = open_recipe(apply_overrides(config, [f"seed={seed}"]), workdir)
    *_, policy = recipe.policies(1).values()
    if state_of(policy.stages["policy"], workdir) != DONE:
        raise NoRunError(f"{folder_of(recipe, policy)} is not there: run benchmarks/claims.py")
    return recipe, policy


def folder_of(recipe: Recipe, policy: Policy) -> Path:
    """Returns where the stage lies that trained a policy."""
    return recipe.workdir / policy.stages["policy"].folder


def watched(recipe: Recipe, policy: Policy) -> pd.DataFrame:
    """Returns what a run noted of its clips, a row a step, the columns `COLUMNS` in its order.

    Raises:
        NoRunError: it did not watch them.
    """
    folder = folder_of(recipe, policy)
    if not (folder / NOTES).exists():
        raise NoRunError(f"{folder} was not watched: align.online.watch=verifier")
    notes, seen = (
        pd.DataFrame(map(json.loads, (folder / name).read_text().splitlines())).set_index("step")
        for name in (NOTES, "metrics.jsonl")
    )
    return notes.join(seen[[name for name in COLUMNS if name in seen]])[list(COLUMNS)]


def of_checkpoints(recipe: Recipe, policy: Policy, per_prompt: int) -> pd.DataFrame:
    """Returns the means over validation clips of the policy at every checkpoint, as `watched`.

    The clips of all are of the same noise; step 0 is the pre-trained policy.

    Args:
        recipe, policy: see `opened`.
        per_prompt: clips of a validation prompt.
    """
    config, found = recipe.config, {}
    start = recipe.pretrained.load_generator()
    plan = align.alignment(config, recipe.generator, recipe.mesh).plan
    place = folder_of(recipe, policy) / "checkpoints"
    with Checkpoints(place, keep_last=config.align.train.keep_last) as kept:
        found[0] = means(recipe, policy, start, per_prompt)
        for step in sorted(kept.steps()):
            state = kept.restore(plan.state, step)
            params = plan.tuning.whole(state.params if state.ema is None else state.ema, start)
            found[step] = means(recipe, policy, params, per_prompt)
    return pd.DataFrame(found).T.rename_axis("step")[list(COLUMNS)]


def means(recipe: Recipe, policy: Policy, params: PyTree, per_prompt: int) -> dict[str, float]:
    """Returns the means over validation clips that parameters draw.

    Args:
        recipe, policy, per_prompt: as of `of_checkpoints`.
        params: of the whole generator.
    """
    of, config = draws.to_validate(recipe.config), recipe.config
    chunks = chunked(of.scenes(recipe.inputs.data, config), per_prompt, recipe.drawn_at_once)
    with recipe.cascade(policy).with_params(params).loaded() as loaded:
        drawn = [recipe.sampler(policy)(loaded, chunk, of.seed) for chunk in chunks]

    def said(reward: ConfigDict) -> float:
        scores = label.mean_score(drawn, reward, recipe.judge_folders, given=recipe.given)
        return scores[reward.dimension]

    shown = looks(np.concatenate([seen_clip(clips) for _, clips in drawn]))
    told = {"reward": said(config.reward), "truth": said(verifying(config.reward))}
    return told | {name: float(values.mean()) for name, values in shown.items()}


def table(found: Mapping[str, Sequence[pd.DataFrame]], window: int) -> Table:
    """Returns the means of the first and of the last steps, with t-intervals over seeds.

    Args:
        found: by what was done, runs of several seeds.
        window: steps that a mean is over.
    """
    rows = []
    for name, runs in found.items():
        for title, column in COLUMNS.items():
            ends = [_means_up_to(run[title], window).iloc[[0, -1]] for run in runs]
            before, after = np.array(ends).T
            change = mean_of_seeds(100 * (after - before), "+.1f")
            rows.append([name, column, f"{before.mean():.3f}", f"{after.mean():.3f}", change])
    columns = ["Policy", "Of its clips", "First steps", "Last steps", "Change, times 100"]
    return Table("Reward, truth and look", columns, rows)


def draw(path: Path, found: Mapping[str, Sequence[pd.DataFrame]], window: int) -> None:
    """Draws reward, truth and motion over steps: a line a policy, thin ones for its seeds."""
    shown = ("reward", "truth", "look/motion")
    figure, panels = plt.subplots(1, len(shown), figsize=(12, 4), constrained_layout=True)
    for number, (name, runs) in enumerate(found.items()):
        for panel, title in zip(panels, shown, strict=True):
            lines = [_means_up_to(run[title], window) for run in runs]
            for line in lines:
                panel.plot(line.index, line, color=f"C{number}", linewidth=0.5, alpha=0.5)
            mean = pd.concat(lines, axis=1).mean(axis=1)
            panel.plot(mean.index, mean, color=f"C{number}", linewidth=2, label=name)
    for panel, title in zip(panels, shown, strict=True):
        panel.set(title=COLUMNS[title], xlabel="step")
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _means_up_to(noted: pd.Series, window: int) -> pd.Series:
    """The mean of the `window` steps up to each that something was noted of, the first whole."""
    known = noted.dropna()
    ends = known.index[known.index >= noted.index[0] + window - 1]
    return pd.Series({end: known.loc[end - window + 1 : end].mean() for end in ends})
