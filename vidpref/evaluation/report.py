"""The report of a run: one HTML file that needs nothing else."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vidpref.evaluation.clips import webm_data_uri
from vidpref.evaluation.figures import category_bars, rounds_curve, training_curves
from vidpref.evaluation.pages import fill
from vidpref.evaluation.rounds import by_method, title
from vidpref.evaluation.tables import (
    SPLITS,
    Estimate,
    Table,
    baseline_of,
    category_table,
    difference,
    policy_table,
    rate,
    rounds_table,
    splits_of,
)
from vidpref.typing import UInt8


@dataclasses.dataclass(frozen=True)
class ClipRow:
    """One prompt's clips of several policies, made from the same noise.

    Attributes:
        prompt: the text.
        category: category of the prompt.
        split: split of the prompt.
        clips: policy -> frames.
        accepted: policy -> verdict of the judge.
    """

    prompt: str
    category: str
    split: str
    clips: Mapping[str, UInt8[np.ndarray, "_t _h _w 3"]]
    accepted: Mapping[str, bool]

    def __post_init__(self):
        if self.clips.keys() != self.accepted.keys():
            raise ValueError(
                f"prompt {self.prompt!r}: clips of {sorted(self.clips)} "
                f"but verdicts of {sorted(self.accepted)}"
            )


@dataclasses.dataclass(frozen=True)
class JudgedClip:
    """One clip with the judge's verdict and its reason."""

    prompt: str
    clip: UInt8[np.ndarray, "_t _h _w 3"]
    accepted: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class ReportData:
    """What a report shows.

    Attributes:
        title: title of the page.
        command: command that made the run, to be copied.
        config_yaml: the whole configuration.
        environment: name -> value: versions, devices, date.
        evaluation: result of `statistics.evaluation_json`. The tables and figures of policies,
            categories and rounds are made from it.
        curves: stage -> metric records with "step"; one figure a stage is made from them.
        timings: (stage, seconds, whether an earlier result was reused).
        before_after: clips side by side.
        judged: examples of the judge's verdicts.
        tables: further tables.
    """

    title: str
    command: str
    config_yaml: str
    environment: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    timings: Sequence[tuple[str, int | float, bool]] = ()
    before_after: Sequence[ClipRow] = ()
    judged: Sequence[JudgedClip] = ()
    tables: Sequence[Table] = ()


@dataclasses.dataclass(frozen=True)
class Headline:
    """The result of one method's last round, in words and numbers."""

    policy: str
    verdict: str
    kind: str  # better | worse | unclear
    prompts: str
    before: Estimate
    after: Estimate
    difference: Estimate
    count: int


def write_report(path: Path, data: ReportData) -> None:
    """Writes the report as one HTML file without any outside reference.

    Args:
        path: path of the file, whose folder must exist.
        data: what to show.
    """
    evaluation, splits = data.evaluation, splits_of(data.evaluation)
    methods = by_method(evaluation["policies"], baseline_of(evaluation))
    has_rounds = any(len(names) > 1 for names in methods.values())
    figures = [category_bars(evaluation)] if splits else []
    figures += [rounds_curve(evaluation)] if has_rounds else []
    tables = [policy_table(evaluation)]
    tables += [rounds_table(evaluation, s) for s in splits] if has_rounds else []
    values = {
        "data": data,
        "headlines": headlines(evaluation),
        "baseline": title(baseline_of(evaluation)),
        "splits": SPLITS,
        "widest": max((len(row.clips) for row in data.before_after), default=1),
        "tables": [*tables, *data.tables],
        "category_tables": [category_table(evaluation, s) for s in splits],
        "figures": figures,
        "curves": [training_curves(stage, records) for stage, records in data.curves.items()],
        "total": sum(seconds for _, seconds, reused in data.timings if not reused),
    }
    filters = {"title_of": title, "duration": duration, "svg": Markup, "video": webm_data_uri}
    path.write_text(fill("report.html", values, filters), encoding="utf-8")


def headlines(evaluation: Mapping[str, Any]) -> list[Headline]:
    """Returns the result of every method's last round on held-out prompts (else the first split).

    A difference counts as better or worse only where its interval excludes 0.

    Args:
        evaluation: result of `statistics.evaluation_json`.
    """
    baseline = baseline_of(evaluation)
    found = []
    for names in by_method(evaluation["policies"], baseline).values():
        policy = names[-1]
        results = evaluation["policies"][policy]
        split = next((s for s in splits_of(evaluation) if s in results), None)
        change = split and difference(evaluation, policy, split)
        if not change:
            continue
        if change.low > 0:
            kind, verdict = "better", "more clips accepted"
        elif change.high < 0:
            kind, verdict = "worse", "fewer clips accepted"
        else:
            kind, verdict = "unclear", "no clear change: the interval of the difference includes 0"
        before = rate(evaluation["policies"][baseline][split])
        after, count = rate(results[split]), results[split]["prompts"]
        prompts = f"{SPLITS.get(split, split)} prompts"
        found.append(Headline(title(policy), verdict, kind, prompts, before, after, change, count))
    return found


def duration(seconds: int | float) -> str:
    """Returns seconds for readers: "8.3 s", "3 min 05 s", "2 h 04 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
