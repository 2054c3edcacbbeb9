"""Correlates automatic scores of clips with what people said of them.

    python launch/correlate.py --truth=people.csv --of=accept \\
        --scores=judge.parquet,measured/clips.csv --out=correlations
    python launch/correlate.py --truth=runs/videoalign --out=correlations
    python launch/correlate.py --truth=runs/ipo --scores=runs/videoalign,runs/mcsc \\
        --policy=pretrained --out=correlations

--truth is a table (.csv, .parquet) with a column clip and one a dimension; or preferences in which
people graded single clips (launch/annotate.py --grade); or a finished run, or WORKDIR/runs/NAME,
whose tables go by a verifier: its judge then needs no --scores. Of --scores, tables with a column
clip such as launch/score.py and launch/measure.py write, each column of numbers is a score; other
finished runs may stand there too, for their judges' scores: those that stand on one generator share
the clips of the pre-trained one. Columns policy (or program), prompt, split and category may stand
in any of the tables. Clips of a run are called POLICY/SCENE/SAMPLE.

A score may be right at one level and useless at another, so there are several: all clips; clips
less the mean of their prompt; means of prompts; means of policies, of 3 at least; and the clips of
each category. Training on pairs sees differences within prompts alone. Prompts that are easy for
the generator and displease a judge can bring its correlation over all clips to nothing while it
orders the clips of each prompt well, and means of prompts can agree where within them it guesses:
look at "within prompts" before you train by a judge (with --policy, where pairs are of the clips of
one), and at "policies" before you trust a table.

--out gets correlations.md, .csv (unrounded) and .png: Pearson's r with 95 % intervals over prompts,
or over policies where these are correlated, Spearman's rho, and p-values, which take clips, prompts
or policies for independent draws. Clips that are missing in a table, or have no number in it, are
counted and named in left_out.csv.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line
from vidpref.runs.places import address_problem

_TRUTH = flags.DEFINE_string("truth", None, "What people said of clips: a table, or a run.")
_OF = flags.DEFINE_list("of", [], "Dimensions of --truth, with commas; all if not given.")
_SCORES = flags.DEFINE_list("scores", [], "Tables of automatic scores, or runs, with commas.")
_SPLIT = flags.DEFINE_string("split", "", "Split of the clips, such as test; all if not given.")
_POLICY = flags.DEFINE_string("policy", "", "Policy of the clips; all if not given.")
_OUT = flags.DEFINE_string("out", None, "Folder of the tables and the picture.")


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    from vidpref.runs import correlation_results
    from vidpref.runs.correlated_scores import read_scores, read_truth

    truth, *judge = read_truth(_TRUTH.value, [name.strip() for name in _OF.value])
    tables = [*judge, *read_scores([place.strip() for place in _SCORES.value])]
    if not tables:
        raise app.UsageError(
            f"--scores=TABLE is missing: {_TRUTH.value} has no judge beside what it is judged by."
        )
    only = {"policy": _POLICY.value, "split": _SPLIT.value}
    only = {column: wanted for column, wanted in only.items() if wanted}
    found = correlation_results.correlate(truth, tables, only)
    print(found.text())
    for path in correlation_results.write(Path(_OUT.value), found):
        print(f"written: {path}")


def _check_flags(overrides: Sequence[str]) -> None:
    wrong = [f"--config.{o.partition('=')[0]} does nothing here." for o in overrides]
    for text, flag in {"--truth=FILE": _TRUTH, "--out=FOLDER": _OUT}.items():
        if not flag.value:
            wrong.append(f"{text} is missing.")
    for flag in (_OF, _SCORES):
        names = [name.strip() for name in flag.value]
        if not all(names):
            wrong.append(f"--{flag.name}: a name is empty.")
        twice = dict.fromkeys(name for name in names if names.count(name) > 1)
        wrong += [f"--{flag.name}: {name} stands twice." for name in twice]
    places = (place.strip() for place in _SCORES.value)
    wrong += filter(None, (address_problem("--scores", place, read=True) for place in places))
    if _OUT.value and Path(_OUT.value).is_file():
        wrong.append(f"--out={_OUT.value} is a file: give a folder.")
    if wrong:
        raise app.UsageError("\n".join(wrong))


if __name__ == "__main__":
    command_line.launch(main, reads=("truth", "scores"))
