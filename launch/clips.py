"""Shows clips that a run drew and stored: without flags what there is, with them the clips.

    python launch/clips.py --workdir=runs/quickstart
    python launch/clips.py --workdir=runs/quickstart --policy=dpo --split=test --noaccepted
    python launch/clips.py --workdir=runs/quickstart --prompt="red ball" --out=balls.png
    python launch/clips.py --workdir=runs/wan --out=videos/

--out is a page (.html; by default clips.html in the work directory), a picture of their frames
(.png), one video (.mp4, .webm, .mkv, .avi), or a folder for the video of every clip. Clips of
several policies from the same noise stand side by side. The newest run of the work directory is
shown; --workdir=WORKDIR/runs/NAME shows another.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line
from vidpref.storage.mirror import address, open_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run, or gs://BUCKET/FOLDER.")
_SET = flags.DEFINE_string(
    "set",
    "evaluation",
    "Clips that policies are compared on (evaluation), that they learnt from (train), that "
    "hyper-parameters were chosen on (validation), or losers beside real clips (losers).",
)
_POLICY = flags.DEFINE_string("policy", "", "Policy that drew the clips; all if not given.")
_SPLIT = flags.DEFINE_string("split", "", "Split of the prompts, such as test; all if not given.")
_PROMPT = flags.DEFINE_string("prompt", "", "Part of the prompt.")
_ACCEPTED = flags.DEFINE_bool("accepted", None, "Only clips that the judge accepted, or rejected.")
_LIMIT = flags.DEFINE_integer(
    "limit", None, "Clips that are written at most, the first ones; by default 40, of a folder all."
)
_OUT = flags.DEFINE_string("out", "", "Page, picture, video or folder to write.")

_MOST = 40  # clips of a page or a picture
_VIDEOS = (".mp4", ".webm", ".mkv", ".avi")


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    workdir = open_folder(_WORKDIR.value)
    out = Path(_OUT.value) if _OUT.value else workdir / "clips.html"
    _check_out(out)
    from vidpref.runs import stored_clips

    sets = stored_clips.clip_sets(workdir)
    chosen = (_SET, _POLICY, _SPLIT, _PROMPT, _ACCEPTED, _LIMIT, _OUT)
    if not any(flag.present for flag in chosen):
        print(stored_clips.overview(sets).to_text(), end="")
        print("(--policy, --split, --prompt, --accepted or --out write them; --help says how)")
        return
    wanted = stored_clips.Wanted(
        _SET.value, _POLICY.value, _SPLIT.value, _PROMPT.value, _ACCEPTED.value
    )
    rows = stored_clips.choose(sets, wanted)
    matching = len(rows)
    limit = _LIMIT.value or (_MOST if out.suffix in (".html", ".png") else matching)
    if out.suffix in _VIDEOS and min(limit, matching) > 1:
        raise ValueError(
            f"{matching} clips match, and --out={out} is one video: name a folder, or choose one "
            "clip with --policy, --prompt or --limit=1"
        )
    clips = stored_clips.read_rows(sets, rows.head(limit), wanted.set)
    about = f"{min(limit, matching)} of {matching} clips: {stored_clips.describe(wanted)}"
    for path in _write(out, clips, about, stored_clips.played_fps(workdir)):
        print(f"written: {address(path)}")
    print(about)


def _check_flags(overrides: Sequence[str]) -> None:
    if not _WORKDIR.value:
        raise app.UsageError("--workdir=FOLDER is missing.")
    if overrides:
        raise app.UsageError(f"--config.{overrides[0]}: a finished run has its config already.")
    if _LIMIT.value is not None and _LIMIT.value < 1:
        raise app.UsageError(f"--limit={_LIMIT.value}: give a number of clips, 1 or more.")
    if not open_folder(_WORKDIR.value).is_dir():
        raise ValueError(f"--workdir={_WORKDIR.value} is no folder")
    for flag in (_SET, _POLICY, _SPLIT, _PROMPT, _OUT):
        if flag.present and not flag.value:
            raise app.UsageError(f"--{flag.name} is empty: give a value, or leave the flag out.")


def _check_out(out: Path) -> None:
    """Refuses what cannot be written, before clips are read."""
    suffixes = (".html", ".png", *_VIDEOS)
    named = out.suffix in suffixes and not _OUT.value.endswith("/")
    if named and out.is_dir():
        raise ValueError(f"--out={out} is a folder: end its name with / or name a file")
    if not named and out.exists() and not out.is_dir():
        raise ValueError(f"--out={out} is a file: name a folder, or one of {', '.join(suffixes)}")
    nearest = next(parent for parent in out.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise ValueError(f"--out={out} cannot be written: {nearest} is no folder")


def _write(out: Path, clips: Sequence, about: str, fps: float) -> list[Path]:
    """Writes the clips and returns what there is now."""
    from vidpref.datasets.video_writing import encode_clip
    from vidpref.evaluation import gallery

    out.parent.mkdir(parents=True, exist_ok=True)
    if _OUT.value.endswith("/") or out.suffix not in (".html", ".png", *_VIDEOS):
        return gallery.write_videos(out, clips, fps=fps)
    if out.suffix == ".html":
        heading = f"Clips of {Path(_WORKDIR.value).absolute().name}"
        folder = gallery.write_gallery(out, clips, heading=heading, about=about, fps=fps)
        return [out] if folder is None else [out, folder]
    if out.suffix == ".png":
        gallery.write_sheet(out, clips)
    else:
        (clip,) = clips[0].clips.values()
        encode_clip(out, clip, fps)
    return [out]


if __name__ == "__main__":
    command_line.launch(main)
