"""Scores video files with a judge and writes one table.

    python launch/score.py --judge=remote_judge --videos=clips/ --prompts=prompts.txt \\
        --config.reward.remote_judge.base_url=http://judge:8000/v1 \\
        --config.reward.remote_judge.model=Qwen2.5-VL-7B --out=scores.parquet
    python launch/score.py --judge=runs/dpo --videos=clips.csv --out=scores.csv
    python launch/score.py --judge=verifier --videos=pairs.csv --root=videos/ --out=scores.csv

--judge is a judge's name, a finished run (its judge), or a folder that holds a judge. --videos is a
folder, with --prompts (a text file with a prompt a line, in the order of the videos' paths, or a
list with the columns path and prompt), one --prompt for all, or a captions.csv in it; or it is such
a list, with a column fps if it likes; or a file of pairs (launch/evaluate_judge.py says which), all
of whose clips are scored. All of these may be in gs://.

A row of the table holds a clip, its prompt, a score in each dimension, how many frames were seen of
how many, height, width, frames a second, the judge's reasons, and why there is no score where there
is none: such clips are counted and named, and the others scored. What a judge said is kept by the
content of video and prompt in --cache: a run that was stopped goes on, and no clip is scored twice.
The hosts of a pod divide the rows; --out and --cache lie on a file system that all share.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line
from vidpref.storage.copies import is_folder

_JUDGE = flags.DEFINE_string("judge", None, "Judge: a name, or the folder of one or of a run.")
_VIDEOS = flags.DEFINE_string("videos", None, "Folder of videos, or a list of clips or of pairs.")
_PROMPTS = flags.DEFINE_string("prompts", "", "Prompts of a folder: a text file, or a list.")
_PROMPT = flags.DEFINE_string("prompt", "", "One prompt for all videos of a folder.")
_ROOT = flags.DEFINE_string(
    "root", "", "Folder that paths of a list are relative to; the list's own if not given."
)
_OUT = flags.DEFINE_string("out", None, "Table to write, .parquet or .csv.")
_CACHE = flags.DEFINE_string(
    "cache", "", "Folder of what judges said; score_cache beside --out if not given."
)
_DIMENSIONS = flags.DEFINE_list(
    "dimensions", [], "What is scored, separated by commas; as the judge's config says by default."
)
_FRAMES = flags.DEFINE_integer(
    "num_frames", 0, "Frames of a clip that are shown at most; 0: all.", lower_bound=0
)
_BATCH = flags.DEFINE_integer("batch_size", 8, "Clips that are judged at once.", lower_bound=1)


def main(overrides: Sequence[str]) -> None:
    _check_flags()
    from vidpref.datasets.clip_lists import list_clips
    from vidpref.rewards.by_name import judge_config, open_judge
    from vidpref.rewards.registry import check_reward
    from vidpref.rewards.score_store import ScoreStore
    from vidpref.runs import score_tables

    config = judge_config(_JUDGE.value, overrides, _DIMENSIONS.value)
    check_reward(config.reward)
    out = Path(_OUT.value)
    score_tables.check_out("--out", out)
    listed = list_clips(
        _VIDEOS.value, _PROMPTS.value, prompt=_PROMPT.value, root=_ROOT.value or None
    )
    cache = Path(_CACHE.value) if _CACHE.value else out.parent / "score_cache"
    command_line.start_devices(cache, [config])
    from vidpref.coordination.agreeing import first_host
    from vidpref.runs.score_videos import Showing, account, score_videos

    judge = open_judge(config)
    showing = Showing(frames=_FRAMES.value, batch_size=_BATCH.value)
    table = score_videos(listed.clips, judge, ScoreStore(cache, judge), showing)
    if not first_host():
        return
    score_tables.write(out, table)
    if len(listed.skipped):
        print(f"left out of {_VIDEOS.value}:\n{listed.skipped.table()}")
    print(account(table, judge))
    print(f"written: {out}")
    if (table["failure"] != "").all():
        raise ValueError(f"no clip was scored; {out} says why for each")


def _check_flags() -> None:
    wanted = {
        "--judge=NAME or FOLDER": _JUDGE,
        "--videos=FOLDER or LIST": _VIDEOS,
        "--out=TABLE": _OUT,
    }
    wrong = [f"{text} is missing." for text, flag in wanted.items() if not flag.value]
    if _PROMPTS.value and _PROMPT.value:
        wrong.append("give either --prompts or --prompt.")
    folder = bool(_VIDEOS.value) and is_folder(_VIDEOS.value)
    if _VIDEOS.value and not folder:
        wrong += [
            f"--{flag.name} goes with a folder of videos: a list has its own prompts."
            for flag in (_PROMPTS, _PROMPT)
            if flag.value
        ]
    elif _VIDEOS.value and _ROOT.value:
        wrong.append("--root goes with a list of clips; --videos is a folder.")
    if any(not name.strip() for name in _DIMENSIONS.value):
        wrong.append("--dimensions: a name is empty.")
    if wrong:
        raise app.UsageError("\n".join(wrong))


if __name__ == "__main__":
    command_line.launch(main, reads=("judge", "videos", "prompts", "root"))
