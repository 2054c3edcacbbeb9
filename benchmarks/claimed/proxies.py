"""Proxies of the truth: what every judge says of the last clips of every policy."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from claimed import feedback
from claimed.claim import PRETRAINED, Group
from vidpref.evaluation.correlation_levels import CATEGORIES, LEVELS
from vidpref.evaluation.tables import Table
from vidpref.runs.correlated_scores import Scores, scores_of
from vidpref.runs.correlation_results import Correlated
from vidpref.runs.counted import CountedStages
from vidpref.runs.graph import Stage, in_order
from vidpref.runs.recipe import Recipe
from vidpref.runs.rounds import run_to
from vidpref.runs.run_truth import named_clips
from vidpref.stages.label import evaluation_frame


@dataclasses.dataclass(frozen=True)
class Proxies:
    """Policies of one pre-trained generator, and the judges that some of them learnt from.

    Attributes:
        group: the policies, each with a judge of its own, and the prompts of their last clips.
        judges: what each is called -> the policy whose judge it is.
    """

    group: Group
    judges: Mapping[str, str]


FEEDBACK = Proxies(
    Group(tuple(feedback.VARIANTS), feedback.FEEDBACK.claims, variants=feedback.VARIANTS),
    {name: f"rwr_{end}" for name, end in feedback.FEEDBACKS.items()},
)


def policies_of(recipes: Mapping[str, Recipe]) -> dict[str, tuple[Stage, Stage]]:
    """Returns of every policy the stages that draw its last clips, and that judge them truly.

    Args:
        recipes: by policy; the pre-trained one is that of the first.
    """
    found = {}
    for name, recipe in recipes.items():
        first, trained = recipe.policies(1).values()
        for called, policy in ((PRETRAINED, first), (name, trained)):
            evaluated = recipe.evaluation(policy)
            found.setdefault(called, (evaluated.samples, evaluated.last))
    return found


def measure(
    recipes: Mapping[str, Recipe], judges: Mapping[str, str], say: Callable[[str], None]
) -> tuple[Scores, list[Scores]]:
    """Runs what is missing, and returns the truth and what each judge says of the same clips.

    Args:
        recipes: by policy, in one work directory.
        judges: as of `Proxies`.
        say: prints a line.
    """
    drawn, last = policies_of(recipes), list(recipes)[-1]
    said: dict[str, dict[str, Stage]] = {"truth": {name: true for name, (_, true) in drawn.items()}}
    for judge, owner in judges.items():
        own = recipes[owner]
        said[judge] = {
            name: own.label_stage(f"label-evaluation-{name}", samples, own.judged)
            for name, (samples, _) in drawn.items()
        }
    targets = [stage for stages in said.values() for stage in stages.values()]
    counted = CountedStages(recipes[last].workdir, say)
    counted.plan(in_order(targets))
    run_to(recipes[last], targets, lambda stage: counted.run("proxies", stage))
    found = []
    for judge, stages in said.items():
        folders = {name: recipes[last].folder(stage) for name, stage in stages.items()}
        found.append(scores_of(judge, named_clips(evaluation_frame(folders, raw=True))))
    return found[0], found[1:]


def seeds_table(found: Mapping[str, Correlated]) -> Table:
    """Returns Pearson's r of every seed, at every level over all clips, and the mean of the seeds.

    Args:
        found: by seed.
    """
    rs: dict[tuple[str, str, str], list[float]] = {}
    for of_seed in found.values():
        for one in of_seed.found:
            if one.level != CATEGORIES:
                rs.setdefault((one.level, one.truth, one.proxy), []).append(one.correlation.pearson)
    rows = [
        [*key, ", ".join(f"{r:+.2f}" for r in values), mean_of_seeds(values)]
        for key, values in sorted(rs.items(), key=lambda item: LEVELS.index(item[0][0]))
    ]
    caption = f"Pearson's r of seeds {', '.join(found)}; t-intervals over them."
    columns = ("Level", "Verifier's", "Proxy", "Each seed", "Mean")
    return Table("Proxies of all seeds", columns, rows, caption)


def mean_of_seeds(values: Sequence[float], form: str = "+.2f") -> str:
    """Returns the mean with its t-interval over seeds; of one seed the value alone.

    Args:
        values: one a seed.
        form: how a number is written.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:{form}}"
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{mean:{form}} [{mean - half:{form}}, {mean + half:{form}}]"
