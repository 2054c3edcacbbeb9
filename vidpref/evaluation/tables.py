"""Comparison tables, as Markdown, CSV and HTML."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vidpref.evaluation import words
from vidpref.evaluation.rounds import by_method, split_round, title
from vidpref.files import write_text

SPLITS = {"train": "training", "validation": "validation", "test": "held-out"}
_MISSING = "–"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A proportion, or a difference of two (`signed`), with its interval; shown in per cent.

    One that is not a proportion (not `percent`) is shown as it is, with two digits.
    """

    value: float
    low: float
    high: float
    signed: bool = False
    percent: bool = True

    def __str__(self) -> str:
        sign = "+" if self.signed else ""
        factor, digits = (100, 1) if self.percent else (1, 2)
        value, low, high = (
            f"{factor * x:{sign}.{digits}f}" for x in (self.value, self.low, self.high)
        )
        return f"{value} [{low}, {high}]"


class Decimals(float):
    """A number that is shown with so many digits behind the point; files for programs keep all."""

    def __new__(cls, value: float, digits: int = 2) -> "Decimals":
        made = super().__new__(cls, value)
        made.digits = digits
        return made

    def __str__(self) -> str:
        return f"{round(float(self), self.digits) + 0.0:.{self.digits}f}"  # no -0.00


Cell = str | int | float | Estimate | None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table for readers.

    Attributes:
        title: heading.
        columns: one name a column.
        rows: cells; None is shown as a dash.
        caption: what one must know to read it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: {len(self.columns)} columns, a row of {len(row)}: {row}"
                )

    def to_markdown(self) -> str:
        """Returns heading, pipe table and caption."""
        lines = [
            [_plain(c) for c in self.columns],
            ["---:" if n else "---" for n in self.numeric()],
        ]
        lines += [[_plain(cell_text(cell)) for cell in row] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(filter(None, (f"## {self.title}", table, self.caption))) + "\n"

    def to_text(self) -> str:
        """Returns heading, columns set under each other and caption, for a terminal."""
        grid = [[cell_text(cell) for cell in row] for row in [self.columns, *self.rows]]
        numeric = self.numeric()
        widths = [max(len(line[i]) for line in grid) for i in self._indices()]
        lines = [self.title]
        for line in grid:
            cells = [
                text.rjust(widths[i]) if numeric[i] else text.ljust(widths[i])
                for i, text in enumerate(line)
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *filter(None, [self.caption])]) + "\n"

    def to_csv(self) -> str:
        """Returns CSV with unrounded numbers; an estimate becomes `x`, `x low` and `x high`."""
        wide = [any(isinstance(row[i], Estimate) for row in self.rows) for i in self._indices()]
        header = []
        for name, is_wide in zip(self.columns, wide, strict=True):
            header += [name, f"{name} low", f"{name} high"] if is_wide else [name]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            line: list[Any] = []
            for cell, is_wide in zip(row, wide, strict=True):
                if isinstance(cell, Estimate):
                    line += [cell.value, cell.low, cell.high]
                else:
                    cell = float(cell) if isinstance(cell, Decimals) else cell
                    line += [cell, None, None] if is_wide else [cell]
            writer.writerow(line)
        return file.getvalue()

    def to_html(self) -> Markup:
        """Returns a `<table>` with every text escaped, without title and caption."""
        kinds = ["number" if n else "text" for n in self.numeric()]
        head = Markup("").join(
            Markup('<th scope="col" class="{}">{}</th>').format(kind, name)
            for kind, name in zip(kinds, self.columns, strict=True)
        )
        body = Markup("").join(self._html_row(row, kinds) for row in self.rows)
        return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(
            head, body
        )

    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [
            any(isinstance(row[i], int | float | Estimate) for row in self.rows)
            for i in self._indices()
        ]

    def _html_row(self, row: Sequence[Cell], kinds: Sequence[str]) -> Markup:
        cells = [Markup('<th scope="row">{}</th>').format(cell_text(row[0]))]
        for cell, kind, name in zip(row[1:], kinds[1:], self.columns[1:], strict=True):
            text = Markup.escape(cell_text(cell))
            if isinstance(cell, Estimate):
                value, _, interval = text.partition(" ")
                text = Markup('{} <span class="interval">{}</span>').format(value, interval)
            # narrow pages stack the cells, each behind its column's name
            cells.append(Markup('<td class="{}" data-column="{}">{}</td>').format(kind, name, text))
        return Markup("<tr>{}</tr>").format(Markup("").join(cells))

    def _indices(self) -> range:
        return range(len(self.columns))


def policy_table(evaluation: Mapping[str, Any]) -> Table:
    """Returns every policy's acceptance and its difference to the baseline, a split a row.

    Args:
        evaluation: result of `statistics.evaluation_json`.
    """
    baseline = baseline_of(evaluation)
    best = evaluation.get("best_of_n", {})
    columns = ["Policy", "Prompts", "Accepted", f"Against {title(baseline)}"]
    for entry in list(best.get(baseline, {}).values())[:1]:
        columns.append(f"Best {entry['best']} of {entry['of']}")
    columns += ["Clips", "Distinct prompts"]
    rows = []
    for split in splits_of(evaluation):
        for name, results in evaluation["policies"].items():
            if split not in results:
                continue
            entry = results[split]
            row = [title(name), SPLITS.get(split, split), rate(entry)]
            row.append(difference(evaluation, name, split))
            if best:
                row.append(Estimate(best[name][split]["mean"], *best[name][split]["ci"]))
            rows.append([*row, entry["n"], entry["prompts"]])
    caption = "Per cent, with 95 % intervals; differences in points, clip by clip with equal noise."
    return Table("Policies", columns, rows, caption)


def comparison_table(evaluation: Mapping[str, Any]) -> Table:
    """Returns method x split with intervals, in the manner of AIF Table 2.

    Args:
        evaluation: result of `statistics.evaluation_json`, pooled over seeds where there are
            several.
    """
    baseline, splits = baseline_of(evaluation), splits_of(evaluation)
    columns = ["Method", *(SPLITS.get(s, s).capitalize() for s in splits)]
    columns += [f"{SPLITS.get(s, s).capitalize()}, against {title(baseline)}" for s in splits]
    rows = []
    for name, results in evaluation["policies"].items():
        row = [title(name), *(rate(results.get(s)) for s in splits)]
        rows.append([*row, *(difference(evaluation, name, s) for s in splits)])
    caption = f"Accepted clips in per cent with 95 % intervals over {over(evaluation)}."
    return Table("Methods", columns, rows, caption)


def category_table(evaluation: Mapping[str, Any], split: str = "test") -> Table:
    """Returns the acceptance of each policy in each category of one split."""
    results = {n: s[split] for n, s in evaluation["policies"].items() if split in s}
    names = sorted({c for entry in results.values() for c in entry["categories"]})
    rows = [[title(n), *(rate(e["categories"].get(c)) for c in names)] for n, e in results.items()]
    heading = f"Categories, {SPLITS.get(split, split)} prompts"
    columns = ["Policy", *map(words.category, names)]
    return Table(heading, columns, rows, "Accepted clips in per cent, 95 % intervals.")


def rounds_table(evaluation: Mapping[str, Any], split: str = "test") -> Table:
    """Returns acceptance after each round of each method (AIF Figure 5, left); 0 is the start.

    Args:
        evaluation: result of `statistics.evaluation_json`; later rounds are named `METHOD_round2`
            and on.
        split: split whose prompts count.
    """
    baseline = baseline_of(evaluation)
    methods = by_method(evaluation["policies"], baseline)
    last = max((split_round(n)[1] for names in methods.values() for n in names), default=0)
    start = rate(evaluation["policies"][baseline].get(split))
    rows = []
    for method, names in methods.items():
        found = {split_round(n)[1]: rate(evaluation["policies"][n].get(split)) for n in names}
        rows.append([title(method), start, *(found.get(r) for r in range(1, last + 1))])
    heading = f"Rounds, {SPLITS.get(split, split)} prompts"
    columns = ["Method", *(f"Round {r}" for r in range(last + 1))]
    return Table(heading, columns, rows, "Accepted clips in per cent, 95 % intervals.")


def dimension_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Returns, for each split, policies against the judge's further dimensions; [] without any.

    Args:
        evaluation: result of `statistics.evaluation_json`.
    """
    if "dimensions" not in evaluation:
        return []
    found = evaluation["dimensions"]
    return [_dimension_table(evaluation, found, split) for split in splits_of(evaluation)]


def _dimension_table(evaluation: Mapping[str, Any], found: Mapping[str, Any], split: str) -> Table:
    baseline = baseline_of(evaluation)
    entries = {n: s[split] for n, s in found["policies"].items() if split in s}
    names = list(next(iter(entries.values())))
    rows = []
    for policy, scores in entries.items():
        paired = found["paired"].get(policy, {}).get(split)
        if paired is None:
            cells = [Estimate(scores[n]["mean"], *scores[n]["ci"]) for n in names]
            rows.append([title(policy), rate(evaluation["policies"][policy][split]), *cells])
            continue
        cells = [Estimate(paired[n]["diff"], *paired[n]["ci"], signed=True) for n in names]
        rows.append([title(policy), difference(evaluation, policy, split), *cells])
    return Table(
        f"Dimensions, {SPLITS.get(split, split)} prompts",
        ["Policy", "Accepted", *(name.replace("_", " ").capitalize() for name in names)],
        rows,
        f"{title(baseline)}: mean scores of 100. Others: points above it, 95 % intervals over "
        f"{over(evaluation)}.",
    )


def evaluation_table(evaluation: Mapping[str, Any]) -> Table:
    """Returns all numbers of an evaluation, one a row, for other programs to read.

    Rows are those of each policy, split and score: acceptance ("accept") over all categories, in
    each of them, and the judge's further dimensions. `value` is the mean and `against_<baseline>`
    the paired difference.

    Args:
        evaluation: result of `statistics.evaluation_json`.
    """
    baseline = baseline_of(evaluation)
    rows: list[list[Cell]] = []
    for name, results in evaluation["policies"].items():
        for split in (s for s in splits_of(evaluation) if s in results):
            entry = results[split]
            counts = [entry["n"], entry["prompts"]]
            change = difference(evaluation, name, split)
            rows.append([name, split, "accept", None, rate(entry), change, *counts])
            for category, part in entry["categories"].items():
                own = [part["n"], part["prompts"]]
                rows.append([name, split, "accept", category, rate(part), None, *own])
            dimensions = evaluation.get("dimensions", {"policies": {}, "paired": {}})
            paired = dimensions["paired"].get(name, {}).get(split, {})
            for score, mean in dimensions["policies"].get(name, {}).get(split, {}).items():
                change = paired.get(score)
                if change is not None:
                    change = Estimate(change["diff"], *change["ci"], signed=True)
                value = Estimate(mean["mean"], *mean["ci"])
                rows.append([name, split, score, None, value, change, *counts])
    columns = ["policy", "split", "score", "category", "value", f"against_{baseline}"]
    return Table("Evaluation", [*columns, "clips", "prompts"], rows)


def write_markdown(path: Path, tables: Sequence[Table], *, heading: str = "") -> None:
    """Writes tables below each other as one Markdown file."""
    parts = [f"# {heading}\n"] if heading else []
    write_text(path, "\n".join([*parts, *(t.to_markdown() for t in tables)]))


def write_csv(path: Path, table: Table) -> None:
    """Writes one table as CSV."""
    write_text(path, table.to_csv())


def baseline_of(evaluation: Mapping[str, Any]) -> str:
    """The policy that the differences of an evaluation refer to."""
    return evaluation.get("baseline", "pretrained")


def splits_of(evaluation: Mapping[str, Any]) -> list[str]:
    """The splits of an evaluation: held-out prompts first."""
    found = {split for results in evaluation["policies"].values() for split in results}
    order = ["test", "validation", "train"]
    return [s for s in order if s in found] + sorted(found - set(order))


def rate(entry: Mapping[str, Any] | None) -> Estimate | None:
    """The acceptance of an entry of `evaluation_json`, for a cell."""
    return Estimate(entry["accept"], *entry["ci"]) if entry else None


def difference(evaluation: Mapping[str, Any], policy: str, split: str) -> Estimate | None:
    """The paired difference of a policy to the baseline, for a cell; None for the baseline."""
    entry = evaluation["paired"].get(policy, {}).get(split)
    return Estimate(entry["diff"], *entry["ci"], signed=True) if entry else None


def over(evaluation: Mapping[str, Any]) -> str:
    """What the intervals of an evaluation are taken over: prompts, or seeds and prompts."""
    entries = [e for splits in evaluation["paired"].values() for e in splits.values()]
    return next((e["over"] for e in entries if "over" in e), "prompts")


def cell_text(cell: Cell) -> str:
    """Returns a cell as it is shown."""
    if cell is None:
        return _MISSING
    short = isinstance(cell, float) and not isinstance(cell, Decimals)
    return f"{cell:.4g}" if short else str(cell)


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
