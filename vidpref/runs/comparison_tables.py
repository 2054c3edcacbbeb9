"""Tables of runs side by side: what was tried, how it trained; and the files they are put into."""

import re
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from vidpref.evaluation.latex import write_latex
from vidpref.evaluation.rounds import title
from vidpref.evaluation.tables import Table, write_csv, write_markdown
from vidpref.runs.compare import Candidate
from vidpref.runs.policies import PRETRAINED
from vidpref.runs.rounds import Run
from vidpref.training.metrics import read_metrics

_LAST = 10  # the last tenth of the logged steps is averaged: single steps are noise
# Metrics of the optimizer, which say nothing of what was learnt.
_OF_STEPS = ("step", "learning_rate", "grad_norm", "param_norm", "update_norm")


def write_tables(workdir: Path, tables: Sequence[Table], *, heading: str) -> None:
    """Writes `comparison.md` and `comparison.tex` with all tables, and each as CSV.

    A table's CSV is named by its title: "Rounds, training prompts" is
    `rounds_training_prompts.csv`.
    """
    write_markdown(workdir / "comparison.md", tables, heading=heading)
    write_latex(workdir / "comparison.tex", tables)
    for table in tables:
        file = re.sub(r"\W+", "_", table.title.lower()).strip("_")
        write_csv(workdir / f"{file}.csv", table)


def search_table(candidates: Sequence[Candidate]) -> Table:
    """Returns every hyper-parameter candidate with its acceptance on validation prompts."""
    rows = [
        [
            title(c.policy),
            ", ".join(o.removeprefix("align.") for o in c.overrides) or "as in the config",
            None if c.validation is None else round(100 * c.validation, 1),
            "chosen" if c.chosen else "",
        ]
        for c in candidates
    ]
    return Table(
        "Hyper-parameters",
        ["Method", "Candidate", "Validation prompts, %", ""],
        rows,
        "Chosen with the first training seed on prompts that neither train nor test.",
    )


def training_table(runs: Sequence[Run]) -> Table:
    """Returns the metrics at the end of every training of a policy, one a row.

    The columns are the metrics that all of them have, the loss first; what the pre-trained policy
    was trained with is left out.
    """
    trained = []
    for run in runs:
        policies = run.recipe.policies(len(run.evaluated) - 1)
        known = {stage.folder for stage in policies.pop(PRETRAINED).stages.values()}
        for name, policy in policies.items():
            for stage in policy.stages.values():
                records = read_metrics(run.recipe.folder(stage))
                if stage.folder not in known and records:
                    trained.append((title(name), run.recipe.config.seed, records))
                known.add(stage.folder)
    shared = [set(record) for _, _, records in trained for record in records]
    names = sorted(set.intersection(*shared).difference(_OF_STEPS, ["loss"])) if shared else []
    names = ["loss", *names]
    rows = []
    for policy, seed, records in trained:
        last = records[-max(1, len(records) // _LAST) :]
        means = [float(sum(record[n] for record in last) / len(last)) for n in names]
        rows.append([policy, seed, records[-1]["step"], *means])
    columns = ["Method", "Seed", "Steps", *(n.replace("_", " ").capitalize() for n in names)]
    caption = (
        "Means over the last tenth of the logged steps. Losses of different objectives, and of one "
        "with other hyper-parameters, do not compare."
    )
    return Table("Training", columns, rows, caption)


def best_of(section: ConfigDict) -> tuple[int, int] | None:
    """Returns (best, of) of the best-of-n column; None where a prompt has fewer clips than n.

    Args:
        section: the config's `evaluate` section.
    """
    if len(section.best_of) != 2:
        return None
    best, of = section.best_of
    return (best, of) if best <= of <= section.per_prompt else None
