"""A data set, samples and labels whose clips are numbered by their pixels."""

import numpy as np
import pandas as pd

from vidpref.datasets.records import write_records
from vidpref.datasets.scenes import Data
from vidpref.datasets.text import TextCache, WordTable
from vidpref.stages.rows.inputs import Material

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
    """`clips`: (scene, sample, number) in the order of the files."""
    write_records(
        folder / "clips-00000.array_record",
        (
            {
                "clip_id": f"{scene}/{sample}",
                "scene_id": scene,
                "prompt": PROMPTS[0],
                "video": pixels(number),
                "first_frame": pixels(number)[0],
            }
            for scene, sample, number in clips
        ),
    )


def write_labels(folder, clips, **scores):
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(
        [(f"{scene}/{sample}", scene, sample) for scene, sample, _ in clips],
        columns=["clip_id", "scene_id", "sample"],
    )
    table.assign(**scores).to_parquet(folder / "labels.parquet")


def material(folder, real=(), **folders):
    texts = TextCache.build(folder / "text", WordTable(4, 8), PROMPTS)
    return Material(Data(list(real), (), PROMPTS), texts, **folders)
