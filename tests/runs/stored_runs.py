"""Made-up work directories with clips and labels, as finished stages leave them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from vidpref.datasets.records import write_records

POLICIES = {"pretrained": "1" * 12, "dpo": "2" * 12}  # and the ends of their folders
PROMPTS = {"a red ball rolls": "test", "a blue cone falls": "test", "a red cone": "train"}


def accepted(policy: str, number: int) -> bool:
    """The made-up verdict on a clip of the prompt with this number."""
    return policy == "dpo" or number == 1


def frames(policy: str, number: int) -> np.ndarray:
    """A clip of one grey, brighter for dpo."""
    return np.full((5, 16, 16, 3), 100 + 20 * number + 50 * (policy == "dpo"), np.uint8)


def write_clips(workdir: Path, policy: str, *, end: str = "", judged: bool = True) -> list[str]:
    """Writes the evaluation clips of a policy, and their labels; returns the folders' names."""
    samples = f"sample-evaluation-{policy}-{end or POLICIES[policy]}"
    records, index, labels = [], [], []
    for number, (prompt, split) in enumerate(PROMPTS.items()):
        fields = {"clip_id": f"scene-{number}/0", "scene_id": f"scene-{number}", "prompt": prompt,
                  "category": "DM", "split": split, "sample": 0}  # fmt: skip
        records.append(fields | {"video": frames(policy, number)})
        index.append(fields | {"file": "clips-00000.array_record", "record": number})
        verdict = float(accepted(policy, number))
        labels.append(fields | {"score": verdict, "accept": verdict,
                                "rationale": "well" if verdict else "path: it rests"})  # fmt: skip
    write_records(workdir / samples / "clips-00000.array_record", records)
    pd.DataFrame(index).to_parquet(workdir / samples / "clips.parquet")
    (workdir / samples / "done.json").write_text('{"seconds": 1.0}')
    if not judged:
        return [samples]
    folder = workdir / samples.replace("sample", "label")
    folder.mkdir()
    pd.DataFrame(labels[::-1]).to_parquet(folder / "labels.parquet")  # joined by id, not by row
    settings = {"causes": {}, "inputs": {"samples": samples}}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "done.json").write_text('{"seconds": 1.0}')
    return [samples, folder.name]
