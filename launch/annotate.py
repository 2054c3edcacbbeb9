"""Serves a page on which people compare clips, or grade them; answers become preference records.

    python launch/annotate.py --workdir=runs/dpo
    python launch/annotate.py --videos=before/,after/ --prompts=prompts.txt --out=judged/
    python launch/annotate.py --videos=clips/ --grade
    python launch/annotate.py --workdir=runs/dpo --export --aggregate=majority

Of a run, its policies are compared on clips of one prompt from the same noise; of several folders,
the videos of one name; of one policy or folder, all clips of one prompt; --grade asks for a grade
from 1 to 5 of single clips. Orders and sides are drawn for each annotator, and nobody is told what
made a clip. Of --checks, a share of the items, there are attention checks, which do not get into
the records: a clip beside itself (a tie is expected), and a pair of before with its sides swapped.

--out is a folder. annotations.journal has every answer, on the disk before the page goes on: stop
and start the program as you like. annotations.jsonl has the records, a line an annotator and pair
(or what --aggregate says: the majority of each pair, "soft" with the gap of the votes as well), for
--config.data.pairs and launch/evaluate_judge.py. --export writes them, and agreement.md, without a
page; it may be done while another process serves, which goes on with its own --aggregate.

The page is on the loopback address alone. From another machine: ssh -L 8765:localhost:8765 HOST.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line
from vidpref.storage.mirror import is_address, open_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run, or gs://BUCKET/FOLDER.")
_SET = flags.DEFINE_string("set", "evaluation", "Clips of a run, as launch/clips.py has them.")
_POLICIES = flags.DEFINE_list("policies", [], "Policies that are compared; all if not given.")
_SPLIT = flags.DEFINE_string("split", "", "Split of the prompts, such as test; all if not given.")
_VIDEOS = flags.DEFINE_list("videos", [], "Folders of videos, or lists of clips with prompts.")
_PROMPTS = flags.DEFINE_string("prompts", "", "Prompts of a folder: a text file, or a list.")
_PROMPT = flags.DEFINE_string("prompt", "", "One prompt for all videos of a folder.")
_GRADE = flags.DEFINE_bool("grade", False, "Ask for grades of single clips.")
_DIMENSIONS = flags.DEFINE_list(
    "dimensions", ["visual_quality", "motion_quality", "text_alignment"], "What is judged."
)
_LIMIT = flags.DEFINE_integer("limit", 0, "Items at most, drawn at random; 0: all.", lower_bound=0)
_VOTES = flags.DEFINE_integer(
    "votes", 0, "Annotators who are asked about an item; 0: everyone.", lower_bound=0
)
_CHECKS = flags.DEFINE_float(
    "checks", 0.1, "Attention checks for each item.", lower_bound=0.0, upper_bound=0.5
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of orders and sides.", lower_bound=0)
_AGGREGATE = flags.DEFINE_enum(
    "aggregate", "each", ["each", "majority", "soft"], "What a line of the records is."
)
_OUT = flags.DEFINE_string(
    "out", "", "Folder of answers; by default WORKDIR/annotations, or that of the videos."
)
_PORT = flags.DEFINE_integer("port", 8765, "Port of the page; 0: any.", 0, 65535)
_EXPORT = flags.DEFINE_bool("export", False, "Write the records, and serve nothing.")


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    from vidpref.annotation.serving import export, serve

    out = _out()
    if _EXPORT.value:
        print(export(out, _AGGREGATE.value), end="")
        return
    from vidpref.annotation.task import Task
    from vidpref.annotation.videos import look_at, not_played
    from vidpref.datasets.bad_clips import BadClips

    skipped = BadClips()
    items, videos = look_at(_items(out, skipped), out, skipped)
    kind = "grade" if _GRADE.value else "compare"
    task = Task(kind, items, _dimensions(), _SEED.value, _CHECKS.value, _VOTES.value)
    if len(skipped):
        print(f"left out:\n{skipped.table()}", file=sys.stderr)
    if warning := not_played(list(videos.values())):
        print(warning, file=sys.stderr)
    serve(task, videos, out, port=_PORT.value, aggregate=_AGGREGATE.value)


def _items(out: Path, skipped):
    """What is asked; of a run, its clips are there as videos afterwards."""
    from vidpref.annotation import pairing
    from vidpref.annotation.task import chosen, clip_name
    from vidpref.runs import annotated_clips, stored_clips

    if _VIDEOS.value:
        places = [place.strip() for place in _VIDEOS.value]
        clips = annotated_clips.folder_clips(places, _PROMPTS.value, _PROMPT.value, skipped)
    else:
        workdir = open_folder(_WORKDIR.value)
        sets = stored_clips.clip_sets(workdir)
        wanted = stored_clips.Wanted(_SET.value, split=_SPLIT.value)
        clips = annotated_clips.run_clips(sets, wanted, _POLICIES.value, out / "videos")
    if _GRADE.value:
        items = pairing.singles(clips, out)
    else:
        items = pairing.pairs(clips, out, skipped)
    items = chosen(items, _LIMIT.value, _SEED.value)
    if not _VIDEOS.value:
        names = {name for item in items for name in item.clips}
        used = clips[[clip_name(path, out) in names for path in clips["path"]]]
        fps = stored_clips.played_fps(workdir)
        annotated_clips.write_run_clips(sets, used, _SET.value, fps)
    return items


def _out() -> Path:
    """Where answers lie."""
    if _OUT.value:
        return Path(_OUT.value)
    if _WORKDIR.value:
        return open_folder(_WORKDIR.value) / "annotations"
    places = [Path(os.path.abspath(place.strip())) for place in _VIDEOS.value]
    if len(places) > 1:
        return Path(os.path.commonpath([place.parent for place in places]))
    return places[0] if places[0].is_dir() else places[0].parent


def _dimensions() -> tuple[str, ...]:
    return tuple(name.strip() for name in _DIMENSIONS.value)


def _check_flags(overrides: Sequence[str]) -> None:
    wrong = [f"--config.{name.partition('=')[0]} does nothing here." for name in overrides]
    if _EXPORT.value:
        if not (_OUT.value or _WORKDIR.value or _VIDEOS.value):
            wrong.append("--out=FOLDER, that of the answers, is missing.")
        asking = (_SET, _POLICIES, _SPLIT, _PROMPTS, _PROMPT, _GRADE, _DIMENSIONS)
        asking += (_LIMIT, _VOTES, _CHECKS, _SEED, _PORT)
        wrong += [f"--{flag.name} does nothing beside --export." for flag in asking if flag.present]
    elif bool(_WORKDIR.value) == bool(_VIDEOS.value):
        wrong.append("give either --workdir=FOLDER or --videos=FOLDER,FOLDER.")
    else:
        others = (_PROMPTS, _PROMPT) if _WORKDIR.value else (_SET, _POLICIES, _SPLIT)
        beside = "--videos" if _WORKDIR.value else "--workdir"
        wrong += [f"--{flag.name} goes with {beside}." for flag in others if flag.present]
    if _WORKDIR.value and is_address(_WORKDIR.value) and not _OUT.value:
        wrong.append(f"--workdir={_WORKDIR.value} is a bucket: give a folder here as --out.")
    if _PROMPTS.value and _PROMPT.value:
        wrong.append("give either --prompts or --prompt.")
    for flag in (_VIDEOS, _DIMENSIONS, _POLICIES):
        if any(not name.strip() for name in flag.value):
            wrong.append(f"--{flag.name}: a name is empty.")
    if len(set(_dimensions())) < len(_dimensions()):
        wrong.append("--dimensions: a name stands twice.")
    if _OUT.value and Path(_OUT.value).is_file():
        wrong.append(f"--out={_OUT.value} is a file: name a folder.")
    if wrong:
        raise app.UsageError("\n".join(wrong))


if __name__ == "__main__":
    command_line.launch(main, reads=("prompts",))
