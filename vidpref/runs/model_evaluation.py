"""Clips of two models, scored by judges, as tables and a page: what `launch/evaluate.py` does."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from vidpref.coordination.agreeing import first_host
from vidpref.datasets.prompt_sets import PromptSet
from vidpref.evaluation.before_after import (
    Scores,
    category_table,
    comparison_json,
    comparison_table,
)
from vidpref.evaluation.before_after_page import Page, ShownClip, ShownPair, write_page
from vidpref.evaluation.tables import write_csv, write_markdown
from vidpref.files import write_text
from vidpref.rewards.by_name import open_judge
from vidpref.rewards.registry import reward_spec
from vidpref.rewards.score_store import ScoreStore
from vidpref.runs import score_tables
from vidpref.runs.compared_models import Model, clip_path, differences, draw_missing, scenes_of
from vidpref.runs.report_contents import environment
from vidpref.runs.rounds import say
from vidpref.runs.score_videos import Showing, account, score_videos

PAGE = "report.html"
_MOVED = 3  # gains, and as many losses, that the page shows
_PAIR = ("prompt", "category", "sample", "before", "after")  # columns of clips.csv before scores


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is evaluated.

    Attributes:
        models: before and after.
        prompts: what clips show.
        judges: by name, see `judge_configs`.
        per_prompt: clips of each prompt.
        seed: seed of the noise.
    """

    models: tuple[Model, Model]
    prompts: PromptSet
    judges: Mapping[str, ConfigDict]
    per_prompt: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Judged:
    """Clips and what was said of them.

    Attributes:
        pairs: a row a prompt and noise: prompt, category, sample, before, after (paths below the
            folder).
        scores: of each judge and dimension, in the order of the pairs.
        reasons: judge -> its words on the clips before, and those after.
        judges: judge -> what it was, with its fingerprint.
    """

    pairs: pd.DataFrame
    scores: Sequence[Scores]
    reasons: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    judges: Mapping[str, str]


def evaluate(what: Evaluation, out: Path, showing: Showing) -> Judged:
    """Draws the clips of both models and has them judged; what is there is neither drawn nor
    judged again.

    Args:
        what: models, prompts, judges.
        out: gets clips/, texts/ and score_cache/; all hosts must see it.
        showing: how clips are shown to judges.
    """
    of_models = {}
    for model in what.models:
        scenes = scenes_of(model, what.prompts.prompts)
        of_models[model.name] = (
            scenes,
            draw_missing(model, out, scenes, per_scene=what.per_prompt, seed=what.seed),
        )
    pairs = _pairs(of_models, what.per_prompt, out)
    listed = pd.concat(
        pd.DataFrame(
            {
                "id": pairs[name],
                "path": [str(out / path) for path in pairs[name]],
                "prompt": pairs["prompt"],
                "fps": np.nan,
            }
        )
        for name in of_models
    )
    scores, reasons, judges = [], {}, {}
    for name, config in what.judges.items():
        judge = open_judge(config)
        table = score_videos(listed, judge, ScoreStore(out / "score_cache", judge), showing)
        say(account(table, judge))
        before, after = table.iloc[: len(pairs)], table.iloc[len(pairs) :]
        judges[name] = str(judge)
        reasons[name] = before["reason"].tolist(), after["reason"].tolist()
        scores += [
            Scores(
                judge=name,
                dimension=dimension,
                share=reward_spec(config.reward).unit == "share",
                before=before[dimension].to_numpy(np.float64),
                after=after[dimension].to_numpy(np.float64),
                prompts=pairs["prompt"].tolist(),
                categories=pairs["category"].tolist(),
            )
            for dimension in judge.reward.dimensions
        ]
        del judge  # its weights leave the devices before the next judge's come
    return Judged(pairs, scores, reasons, judges)


def write(what: Evaluation, judged: Judged, out: Path, *, shown: int, command: str) -> str:
    """Writes clips.csv, evaluation.json, evaluation.csv, evaluation.md and report.html.

    Args:
        what: what was evaluated.
        judged: what came of it.
        out: the folder.
        shown: prompts whose clips the page shows.
        command: what the user typed.

    Returns:
        The tables as text.

    Raises:
        ValueError: a judge scored no pair of clips; all files are written.
    """
    numbers = [comparison_json(scores) for scores in judged.scores]
    tables = [comparison_table(judged.scores)]
    if (categories := category_table(judged.scores)) is not None:
        tables.append(categories)
    if first_host():
        columns = {
            f"{scores.name}, {side}": getattr(scores, side)
            for scores in judged.scores
            for side in ("before", "after")
        }
        score_tables.write(out / "clips.csv", judged.pairs.assign(**columns))
        found = {"settings": _settings(what, judged), "comparisons": numbers}
        text = json.dumps(found, indent=2, default=str, allow_nan=False)
        write_text(out / "evaluation.json", text + "\n")
        write_csv(out / "evaluation.csv", tables[0])
        write_markdown(out / "evaluation.md", tables, heading=_title(what))
        write_page(out / PAGE, _page(what, judged, tables, shown, command))
    for scores, found in zip(judged.scores, numbers, strict=True):
        if not found["clips"]:
            raise ValueError(f"{scores.name}: no pair of clips was scored; see {out / 'clips.csv'}")
    return "\n".join(table.to_text() for table in tables)


def _pairs(of_models: Mapping[str, tuple], per_prompt: int, out: Path) -> pd.DataFrame:
    (scenes, _), *_ = of_models.values()
    rows = [(scene, number) for scene in scenes for number in range(per_prompt)]
    found = {
        "prompt": [scene.text for scene, _ in rows],
        "category": [scene.category for scene, _ in rows],
        "sample": [number for _, number in rows],
    }
    for name, (_, folder) in of_models.items():
        found[name] = [clip_path(folder, row).relative_to(out).as_posix() for row in rows]
    return pd.DataFrame(found)[list(_PAIR)]


def _title(what: Evaluation) -> str:
    return f"{what.models[1].about} against {what.models[0].about}"


def _settings(what: Evaluation, judged: Judged) -> dict[str, str | int]:
    before, after = what.models
    config = before.source.config
    return {
        "before": before.about,
        "after": after.about,
        "other differences": "; ".join(differences(before, after)) or "none",
        "prompts": str(what.prompts),
        "clips of each": what.per_prompt,
        "seed": what.seed,
        "sampler": f"{config.sampler.name}, {config.sampler.steps} steps, guidance "
        f"{config.sampler.guidance_scale:g}",
        "size": f"{config.data.frames} frames of " + " x ".join(map(str, before.source.size)),
        **{f"judge {name}": told for name, told in judged.judges.items()},
    }


def _page(what: Evaluation, judged: Judged, tables: Sequence, shown: int, command: str) -> Page:
    chosen = {prompt.text for prompt in what.prompts.first(shown).prompts}
    pairs = judged.pairs
    first = np.flatnonzero((pairs["sample"] == 0) & pairs["prompt"].isin(chosen))
    by, moved = _moved(judged.scores)
    settings = _settings(what, judged)
    about = [f"{settings['prompts']}, {what.per_prompt} of each, seed {what.seed}"]
    if settings["other differences"] != "none":
        about.append(f"The models differ in more than weights: {settings['other differences']}")
    return Page(
        title=_title(what),
        about=about,
        tables=tables,
        chosen=[_shown(judged, row) for row in first.tolist()],
        choice="The prompts were drawn by a hash of their texts, whatever came out."
        if len(chosen) < len(what.prompts.prompts)
        else "These are all prompts, with the first clip of each.",
        moved=[_shown(judged, row, f"{by.difference[row]:+.3f}") for row in moved],
        moved_by=by.name,
        command=command,
        settings={name: str(value) for name, value in settings.items()},
        environment=environment(),
    )


def _moved(every: Sequence[Scores]) -> tuple[Scores, list[int]]:
    """The first scores in which clips won or lost, and the pairs with the largest changes."""
    for scores in every:
        change = np.nan_to_num(scores.difference)
        order = np.argsort(-change, kind="stable").tolist()
        gains = [i for i in order if change[i] > 0 and change[i] >= scores.tie][:_MOVED]
        losses = [i for i in order if change[i] < 0 and -change[i] >= scores.tie][-_MOVED:]
        if gains or losses:
            return scores, [*gains, *losses[::-1]]
    return every[0], []


def _shown(judged: Judged, row: int, note: str = "") -> ShownPair:
    pair = judged.pairs.iloc[row]
    clips = {}
    for number, side in enumerate(("before", "after")):
        said = [(scores.name, getattr(scores, side)[row]) for scores in judged.scores]
        words = [(judge, reasons[number][row]) for judge, reasons in judged.reasons.items()]
        clips[side] = ShownClip(
            address=pair[side],
            scores=[
                f"{name} {'without a score' if np.isnan(value) else f'{value:.3f}'}"
                for name, value in said
            ],
            reasons=[(judge, reason) for judge, reason in words if reason],
        )
    return ShownPair(pair["prompt"], pair["category"], clips, note)
