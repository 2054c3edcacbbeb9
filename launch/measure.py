"""Measures folders of videos, ours or any other program's: FVD, FID, IS, CLIP score, VBench.

    python launch/measure.py --videos=ours/,theirs/ --reference=real/ --out=measured \\
        --videomae=videomae-base-finetuned-kinetics --inception=pt_inception-2015-12-05.safetensors
    python launch/measure.py --videos=clips.csv --metrics=clip_score --clip=clip-vit-base-patch16 \\
        --out=measured

--videos are folders of video files, or lists of clips (columns path and prompt); each is a row of
the table. Prompts of a folder are those of its captions.csv, of --prompts (one folder alone), or of
the files' names with --named_by_prompts (VBench's "a cat-0.mp4"). --reference are the clips that
FVD and FID are distances to. Without --metrics all are measured whose weights are given, those that
need no weights too. All of these, and the weights, may be in gs://.

metrics.csv and metrics.json in --out hold every number with its 95 % interval over prompts, or over
clips where there are no prompts, and what to mind; clips.csv has a row a clip. VBench's dimensions
are normalised as on its leaderboard; its quality, semantic and total scores come out where all of
their dimensions are known, from here or from VBench's own results (--vbench_results). A clip that
cannot be measured is named, and the others count. What was measured is kept by the content of a
file in --cache: a run that was stopped goes on, and the hosts of a pod divide the clips; --out and
--cache lie on a file system that all share.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line
from vidpref.runs.places import address_problem
from vidpref.storage.copies import is_folder

_VIDEOS = flags.DEFINE_list("videos", [], "Folders of videos or lists of clips, with commas.")
_REFERENCE = flags.DEFINE_string("reference", "", "Real clips, for FVD and FID.")
_METRICS = flags.DEFINE_list("metrics", [], "Metrics, with commas; all that can be if not given.")
_OUT = flags.DEFINE_string("out", None, "Folder of the tables.")
_CACHE = flags.DEFINE_string(
    "cache", "", "Folder of what was measured; measure_cache beside --out if not given."
)
_PROMPTS = flags.DEFINE_string("prompts", "", "Prompts of one folder: a text file, or a list.")
_NAMED = flags.DEFINE_bool("named_by_prompts", False, "Files of folders are called by prompts.")
_VBENCH = flags.DEFINE_string(
    "vbench_results", "", "JSON of dimensions that VBench itself has measured, of one folder."
)
PLACES = {
    "videomae": "Folder of VideoMAE: fvd_videomae.",
    "i3d": "Safetensors file of pytorch-i3d, Kinetics-400: fvd_i3d.",
    "inception": "Safetensors file of pytorch-fid's Inception-V3: fid, is.",
    "clip": "Folder of a CLIP model: clip_score.",
    "clip_b32": "Folder of CLIP ViT-B/32: background_consistency.",
    "clip_l14": "Folder of CLIP ViT-L/14: aesthetic_quality.",
    "aesthetic_head": "Safetensors file of LAION's linear head: aesthetic_quality.",
    "dino": "Folder of DINO ViT-B/16: subject_consistency.",
    "raft": "Safetensors file of torchvision's large RAFT, C_T_V1: dynamic_degree.",
    "musiq": "Safetensors file of pyiqa's MUSIQ of SPAQ: imaging_quality.",
    "amt": "Safetensors file of AMT-S: motion_smoothness.",
}
_PLACES = {name: flags.DEFINE_string(name, "", text) for name, text in PLACES.items()}
_FVD_FRAMES = flags.DEFINE_integer(
    "fvd_frames", 16, "Frames of a clip for fvd_i3d, from the first on.", lower_bound=9
)
_FVD_STRIDE = flags.DEFINE_integer("fvd_stride", 1, "Step between frames of FVD.", lower_bound=1)
_EPSILON = flags.DEFINE_float(
    "i3d_epsilon", 1e-3, "Of I3D's norms; VideoGPT's copy has 1e-5.", lower_bound=0.0
)
_IMAGE_FRAMES = flags.DEFINE_integer(
    "image_frames", 16, "Frames of a clip for fid and is, evenly spaced; 0: all.", lower_bound=0
)
_CLIP_FRAMES = flags.DEFINE_integer(
    "clip_frames", 0, "Frames of a clip for clip_score, evenly spaced; 0: all.", lower_bound=0
)
_SPLITS = flags.DEFINE_integer("is_splits", 10, "Splits of the Inception Score.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 8, "Clips or frames at once.", lower_bound=1)


def main(overrides: Sequence[str]) -> None:
    _check_flags(overrides)
    from vidpref.datasets.program_clips import program_clips
    from vidpref.runs import metric_results
    from vidpref.video_metrics.registry import (
        METRICS,
        Places,
        Settings,
        build_measures,
        check_metrics,
    )

    places = Places(**{name: flag.value for name, flag in _PLACES.items()})
    metrics = _METRICS.value or [
        name
        for name, metric in METRICS.items()
        if all(getattr(places, place) for place in metric.places)
        and (_REFERENCE.value or metric.kind != "distance")
    ]
    check_metrics(metrics, places)
    distances = [name for name in metrics if METRICS[name].kind == "distance"]
    if distances and not _REFERENCE.value:
        raise app.UsageError(f"--reference=FOLDER is missing: {distances[0]} is a distance to it.")
    if _REFERENCE.value and not distances:
        raise app.UsageError("--reference does nothing: no distance is measured, such as fid.")
    others = metric_results.read_vbench_results(Path(_VBENCH.value)) if _VBENCH.value else {}
    listed = {
        place: program_clips(place, _PROMPTS.value, named_by_prompts=_NAMED.value)
        for place in _VIDEOS.value
    }
    out = Path(_OUT.value)
    cache = Path(_CACHE.value) if _CACHE.value else out.parent / "measure_cache"
    reference = program_clips(_REFERENCE.value) if _REFERENCE.value else None
    command_line.start_devices(cache)
    from vidpref.coordination.agreeing import first_host
    from vidpref.runs.measure_videos import measure_clips

    settings = Settings(
        fvd_frames=_FVD_FRAMES.value,
        fvd_stride=_FVD_STRIDE.value,
        i3d_epsilon=_EPSILON.value,
        image_frames=_IMAGE_FRAMES.value,
        clip_frames=_CLIP_FRAMES.value,
        batch_size=_BATCH.value,
    )
    measures = build_measures(metrics, places, settings)
    programs = [
        measure_clips(place, found.clips, measures, cache, settings.batch_size)
        for place, found in listed.items()
    ]
    real = None
    if reference is not None:
        needed = {METRICS[name].measure for name in distances}
        of_distances = {name: m for name, m in measures.items() if name in needed}
        real = measure_clips(
            _REFERENCE.value, reference.clips, of_distances, cache, settings.batch_size
        )
    if not first_host():
        return
    found, vbench = [], {}
    for program in programs:
        own = metric_results.results(program, real, metrics, _SPLITS.value)
        vbench[program.name] = metric_results.vbench_of(own, others)
        found += own
    table = metric_results.table(found)
    clips = metric_results.clip_table([*programs, *([real] if real else [])], metrics)
    about = {
        "metrics": list(metrics),
        "reference": _REFERENCE.value,
        "is_splits": _SPLITS.value,
        **dataclasses.asdict(settings),
        **{name: measure.causes for name, measure in measures.items()},
    }
    metric_results.write_results(out, table, clips, vbench, about)
    for place, read in listed.items():
        if len(read.skipped):
            print(f"left out of {place}:\n{read.skipped.table()}")
    print(metric_results.account(table, clips, vbench))
    print(f"written: {out}")
    if table["value"].isna().all():
        raise ValueError(f"nothing could be measured; {out / 'clips.csv'} says why for each clip")


def _check_flags(overrides: Sequence[str]) -> None:
    wrong = [f"--config.{o.partition('=')[0]} does nothing here." for o in overrides]
    for text, flag in {"--videos=FOLDER": _VIDEOS, "--out=FOLDER": _OUT}.items():
        if not flag.value:
            wrong.append(f"{text} is missing.")
    places = [place.strip() for place in _VIDEOS.value]
    if any(not place for place in places):
        wrong.append("--videos: a name is empty.")
    wrong += filter(None, (address_problem("--videos", place, read=True) for place in places))
    wrong += [f"--videos: {p} stands twice." for p in dict.fromkeys(places) if places.count(p) > 1]
    if any(not name.strip() for name in _METRICS.value):
        wrong.append("--metrics: a name is empty.")
    if _EPSILON.value == 0:
        wrong.append("--i3d_epsilon=0: give a number above 0.")
    for flag in (_PROMPTS, _VBENCH):
        if flag.value and len(places) > 1:
            wrong.append(f"--{flag.name} goes with one folder of --videos, not {len(places)}.")
    if _PROMPTS.value and _NAMED.value:
        wrong.append("give either --prompts or --named_by_prompts.")
    if _PROMPTS.value and len(places) == 1 and not is_folder(places[0]):
        wrong.append("--prompts goes with a folder: a list has its own prompts.")
    if _OUT.value and Path(_OUT.value).is_file():
        wrong.append(f"--out={_OUT.value} is a file: give a folder.")
    if wrong:
        raise app.UsageError("\n".join(wrong))


if __name__ == "__main__":
    command_line.launch(main, reads=("videos", "reference", "prompts", "vbench_results", *PLACES))
