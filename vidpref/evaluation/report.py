"""The report of a run: one HTML file that needs nothing else."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vidpref.evaluation import words
from vidpref.evaluation.changes import Changes, changes_table
from vidpref.evaluation.clips import Videos
from vidpref.evaluation.curves import drift_curves, training_curves
from vidpref.evaluation.figures import category_bars, rounds_curve
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
from vidpref.files import write_text
from vidpref.typing import UInt8

_WIDE = 256  # columns of pixels from which a clip gets a card as wide as the page allows


@dataclasses.dataclass(frozen=True)
class ClipRow:
    """One prompt's clips of several policies, made from the same noise.

    Attributes:
        prompt: the text.
        category: category of the prompt.
        split: split of the prompt.
        clips: policy -> frames.
        accepted: policy -> verdict of the judge; None without a judge.
        reasons: policy -> the judge's words.
        name: name of the prompt and the noise, for the names of files.
        note: what else is said of the row.

    Raises:
        ValueError: clips and verdicts of different policies.
    """

    prompt: str
    category: str
    split: str
    clips: Mapping[str, UInt8[np.ndarray, "_t _h _w 3"]]
    accepted: Mapping[str, bool] | None
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    name: str = ""
    note: str = ""

    def __post_init__(self):
        if self.accepted is not None and self.clips.keys() != self.accepted.keys():
            raise ValueError(
                f"prompt {self.prompt!r}: clips of {sorted(self.clips)} "
                f"but verdicts of {sorted(self.accepted)}"
            )


@dataclasses.dataclass(frozen=True)
class JudgedClip:
    """One clip with the judge's verdict and its reason, and a name for its file."""

    prompt: str
    clip: UInt8[np.ndarray, "_t _h _w 3"]
    accepted: bool
    reason: str
    name: str = ""


@dataclasses.dataclass(frozen=True)
class ReportData:
    """What a report shows.

    Attributes:
        title: title of the page.
        command: command that made the run, to be copied.
        config_yaml: the whole configuration.
        environment: name -> value: versions, devices, date.
        evaluation: result of `statistics.evaluation_json`. The tables and figures of policies,
            categories and rounds are made from it. None without a judge.
        curves: stage -> metric records with "step"; one figure a stage is made from them.
        timings: (stage, seconds, whether an earlier result was reused).
        before_after: clips side by side.
        choice: how these were chosen, a sentence.
        changes: how many verdicts changed.
        changed: clips side by side whose verdict changed.
        judged: examples of the judge's verdicts.
        tables: further tables.
        accounts: tables of what each training learnt from.
        settings: table of the settings that matter most.
        spent: table of where the time went.
        made: when and with what the report was made, a line.
        paper: table of what the paper says, beside what the run came to.
    """

    title: str
    command: str
    config_yaml: str
    environment: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    timings: Sequence[tuple[str, int | float, bool]] = ()
    before_after: Sequence[ClipRow] = ()
    choice: str = "The prompts are the first held-out ones of each category, whatever came out."
    changes: Sequence[Changes] = ()
    changed: Sequence[ClipRow] = ()
    judged: Sequence[JudgedClip] = ()
    tables: Sequence[Table] = ()
    accounts: Sequence[Table] = ()
    settings: Table | None = None
    spent: Table | None = None
    made: str = ""
    paper: Table | None = None


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


def write_report(
    path: Path, data: ReportData, videos: Videos | None = None, *, copies: Sequence[Path] = ()
) -> None:
    """Writes the report as one HTML file; only large clips lie beside it.

    Args:
        path: path of the file, whose folder must exist.
        data: what to show.
        videos: what encodes the clips; by default all are kept inside the page.
        copies: paths of the same page elsewhere, with addresses of large clips as seen from there.
    """
    videos = Videos() if videos is None else videos
    evaluation = data.evaluation
    values = {"data": data, "splits": SPLITS, "tables": data.tables, "baseline": "pretrained"}
    values |= {name: [] for name in ("headlines", "category_tables", "figures", "changes")}
    if evaluation is not None:
        values |= _of_evaluation(evaluation, data)
    curves = [draw(*of) for of in data.curves.items() for draw in (training_curves, drift_curves)]
    values["curves"] = [figure for figure in curves if figure is not None]
    values["total"] = sum(seconds for _, seconds, reused in data.timings if not reused)
    for page in (path, *copies):
        write_text(page, fill("report.html", values, page_filters(page, videos)))


def page_filters(path: Path, videos: Videos) -> dict[str, Callable]:
    """Returns the filters of the templates that show clips.

    Args:
        path: path of the page.
        videos: what encodes the clips.
    """

    def wide(rows: Sequence[ClipRow]) -> bool:
        return any(clip.shape[2] >= _WIDE for row in rows for clip in row.clips.values())

    return {
        "title_of": title,
        "category": words.category,
        "stage": lambda name: words.capital(words.stage(name)),
        "duration": duration,
        "svg": Markup,
        "video": lambda clip, name: videos.address(clip, name, path),
        "wide": wide,
    }


def _of_evaluation(evaluation: Mapping[str, Any], data: ReportData) -> dict[str, Any]:
    """What the page says of a judge's numbers."""
    splits, baseline = splits_of(evaluation), baseline_of(evaluation)
    methods = by_method(evaluation["policies"], baseline)
    has_rounds = any(len(names) > 1 for names in methods.values())
    figures = [category_bars(evaluation)] if splits else []
    figures += [rounds_curve(evaluation)] if has_rounds else []
    tables = [policy_table(evaluation)]
    tables += [rounds_table(evaluation, s) for s in splits] if has_rounds else []
    last = {names[-1] for names in methods.values()}
    return {
        "headlines": headlines(evaluation),
        "baseline": title(baseline),
        "tables": [*tables, *data.tables],
        "category_tables": [category_table(evaluation, s) for s in splits],
        "figures": figures,
        "changes": [c for c in data.changes if c.policy in last and c.split == splits[0]],
        "changes_table": changes_table(data.changes, baseline),
    }


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
