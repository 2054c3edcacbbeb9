"""Measures a judge on pairs of clips that people voted on.

    python launch/score.py --judge=runs/dpo --videos=videogen-rewardbench.csv --root=videos/ \\
        --out=scores.parquet
    python launch/evaluate_judge.py --pairs=videogen-rewardbench.csv --root=videos/ \\
        --scores=scores.parquet --out=rewardbench/
    python launch/evaluate_judge.py --pairs=test_v1.parquet --root=videos/ --judge=runs/dpo \\
        --both_bad=drop --out=genai/

--pairs is a file of VideoGen-RewardBench, GenAI-Bench, UnifiedReward's copy of it, MJ-Bench-Video,
VisionRewardDB-Video or of our own layouts (README, "Your own preferences"); its fields tell which,
or --layout. --scores is a table of launch/score.py, or any table (.csv, .parquet) with the columns
clip (its path below --root) and one a dimension. A judge of pairs has a table of verdicts instead:
clip_a (shown first), clip_b, and A, B or tie a dimension; with both orders of a pair, its position
bias is measured. --judge scores the clips first, as launch/score.py does. What is read may be in
gs://.

--out gets accuracy.md, accuracy.csv and accuracy.png: for each dimension the accuracy with ties
(exact, and as VideoAlign's public script has it), that of random scores, without ties, intervals
over prompts, Cohen's kappa, correlations, and what failed; where people scored single clips, their
correlation with the judge's scores too. left_out.csv names every row that could not be used.
--match says which scores stand for a vote: --match=overall=text_alignment, or
overall=visual_quality+motion_quality for their mean.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line
from vidpref.storage.copies import here

_PAIRS = flags.DEFINE_string("pairs", None, "File of pairs with votes.")
_LAYOUT = flags.DEFINE_string("layout", "auto", "Layout of --pairs, such as genai_bench.")
_ROOT = flags.DEFINE_string(
    "root", "", "Folder that paths of clips are relative to; that of --pairs if not given."
)
_SCORES = flags.DEFINE_string("scores", "", "Table of a judge's scores, or of its verdicts.")
_JUDGE = flags.DEFINE_string("judge", "", "Judge to ask: a name, or the folder of one or of a run.")
_CACHE = flags.DEFINE_string(
    "cache", "", "Folder of what --judge said; score_cache in --out if not given."
)
_DIMENSIONS = flags.DEFINE_list("dimensions", [], "What --judge scores, separated by commas.")
_FRAMES = flags.DEFINE_integer(
    "num_frames", 0, "Frames that --judge is shown at most; 0: all.", lower_bound=0
)
_BATCH = flags.DEFINE_integer("batch_size", 8, "Clips that --judge sees at once.", lower_bound=1)
_MATCH = flags.DEFINE_list(
    "match", [], "VOTED=SCORED[+SCORED...], separated by commas: what stands for which vote."
)
_BOTH_BAD = flags.DEFINE_enum(
    "both_bad", "tie", ["tie", "drop"], "What a vote counts as that says both clips are bad."
)
_PARTIAL = flags.DEFINE_bool("partial", False, "Leave out pairs that --scores lack.")
_OUT = flags.DEFINE_string("out", None, "Folder for the tables and the picture.")


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    from vidpref.datasets.benchmarks import read_benchmark
    from vidpref.runs import judge_evaluation, score_tables

    out, match = Path(_OUT.value), _match()
    read = read_benchmark(
        _PAIRS.value, _LAYOUT.value, root=_ROOT.value or None, both_bad=_BOTH_BAD.value
    )
    if _SCORES.value:
        path = here(_SCORES.value)
        table, judge = judge_evaluation.read_scores(path), path.name
    else:
        table, judge = _asked(read.preferences, overrides, out)
    from vidpref.coordination.agreeing import first_host

    if not first_host():
        return
    about = judge_evaluation.about(read, _PAIRS.value, judge)
    found = judge_evaluation.measure(read, table, match, about=about, partial=_PARTIAL.value)
    if _JUDGE.value:
        score_tables.write(out / "scores.parquet", table)
    print(found.text(), end="")
    for path in judge_evaluation.write(out, found):
        print(f"written: {path}")


def _asked(preferences, overrides: Sequence[str], out: Path):
    """The scores that a judge gives to all clips that people voted on, and what it is called."""
    from vidpref.datasets.clip_lists import compared_clips
    from vidpref.rewards.by_name import judge_config, open_judge
    from vidpref.rewards.registry import check_reward
    from vidpref.rewards.score_store import ScoreStore

    config = judge_config(_JUDGE.value, overrides, _DIMENSIONS.value)
    check_reward(config.reward)
    cache = Path(_CACHE.value) if _CACHE.value else out / "score_cache"
    command_line.start_devices(cache, [config])
    from vidpref.coordination.agreeing import first_host
    from vidpref.runs.score_videos import Showing, account, score_videos

    judge = open_judge(config)
    showing = Showing(frames=_FRAMES.value, batch_size=_BATCH.value)
    clips = compared_clips(preferences)
    table = score_videos(clips, judge, ScoreStore(cache, judge), showing)
    if first_host():
        print(account(table, judge))
    return table, str(judge)


def _match() -> dict[str, list[str]]:
    found = {}
    for item in _MATCH.value:
        voted, _, scored = item.partition("=")
        found[voted.strip()] = [name.strip() for name in scored.split("+")]
    return found


def _check_flags(overrides: Sequence[str]) -> None:
    wanted = {"--pairs=FILE": _PAIRS, "--out=FOLDER": _OUT}
    wrong = [f"{text} is missing." for text, flag in wanted.items() if not flag.value]
    if bool(_SCORES.value) == bool(_JUDGE.value):
        wrong.append("give either --scores=TABLE or --judge=NAME.")
    if not _JUDGE.value:
        of_judge = (_CACHE, _DIMENSIONS, _FRAMES, _BATCH)
        given = [f"--{flag.name}" for flag in of_judge if flag.present]
        given += [f"--config.{override.partition('=')[0]}" for override in overrides]
        wrong += [f"{name} goes with --judge." for name in given]
    elif _PARTIAL.value:
        wrong.append("--partial goes with --scores: --judge scores all clips.")
    for item in _MATCH.value:
        voted, equals, scored = item.partition("=")
        if not equals or not voted.strip() or not all(map(str.strip, scored.split("+"))):
            wrong.append(f"--match={item}: write VOTED=SCORED, or VOTED=SCORED+SCORED.")
    if any(not name.strip() for name in _DIMENSIONS.value):
        wrong.append("--dimensions: a name is empty.")
    if _OUT.value and Path(_OUT.value).is_file():
        wrong.append(f"--out={_OUT.value} is a file: name a folder.")
    if wrong:
        raise app.UsageError("\n".join(wrong))


if __name__ == "__main__":
    command_line.launch(main, reads=("pairs", "root", "scores", "judge"))
