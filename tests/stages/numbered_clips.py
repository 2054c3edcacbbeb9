"""A data set, samples and labels whose clips are numbered by their pixels."""

import numpy as np
import pandas as pd

from vidpref.datasets.records import write_records
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache, WordTable
from vidpref.stages.rows.inputs import RowInputs

PROMPTS = ("a ball", "a cone", "a cup")


def pixels(number):
    return np.full((2, 4, 4, 3), number, np.uint8)


def numbers_of(row):
    """The numbers of a row's clips."""
    return row["clips"][:, 0, 0, 0, 0].tolist()


def real_record(number, *, defect=b"", split=b"train"):
    prompt = PROMPTS[number % 3]
    return {
        "prompt": prompt.encode(),
        "category": b"DM",
        "split": split,
        "defect": defect,
        "video": pixels(number),
        "first_frame": pixels(number)[0],
    }


def write_samples(folder, clips):
    """`clips`: (scene, sample, number) in the order of the index; records lie the other way."""
    file = "clips-00000.array_record"
    fields = [
        {
            "clip_id": f"{scene}/{sample}",
            "scene_id": scene,
            "prompt": PROMPTS[0],
            "category": "DM",
            "split": "train",
            "sample": sample,
        }
        for scene, sample, _ in clips
    ]
    records = [
        known | {"video": pixels(number), "first_frame": pixels(number)[0]}
        for known, (*_, number) in zip(fields, clips, strict=True)
    ]
    write_records(folder / file, records[::-1])
    places = {"file": file, "record": range(len(clips) - 1, -1, -1)}
    pd.DataFrame(fields).assign(**places).to_parquet(folder / "clips.parquet")


def write_labels(folder, clips, **scores):
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(
        [(f"{scene}/{sample}", scene, sample) for scene, sample, _ in clips],
        columns=["clip_id", "scene_id", "sample"],
    )
    table.assign(**scores).to_parquet(folder / "labels.parquet")


def row_inputs(folder, real=(), **folders):
    texts = TextCache.build(folder / "text", WordTable(4, 8), PROMPTS)
    return RowInputs(Data(list(real), (), PROMPTS), texts, folder=folder, **folders)
