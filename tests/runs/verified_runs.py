"""A made-up run whose tables go by a verifier, with what its judge said of the same clips."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from vidpref.runs.run_folder import RunRecord, run_folder, write_record


def labels(policy, seed, **scores):
    """Labels of the evaluation clips of a policy, as a label stage leaves them."""
    rng = np.random.default_rng(seed)
    rows = [
        {"clip_id": f"scene-{i}/{k}", "scene_id": f"scene-{i}", "prompt": f"prompt {i}",
         "category": "DM", "split": "test" if i % 2 else "train", "sample": k, "dimension": "x",
         "who": "me", "rationale": ""}
        for i in range(6) for k in range(3)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(**{name: rng.random(len(rows)) + shift for name, shift in scores.items()})


def write_verified_run(workdir: Path) -> tuple[Path, dict[str, pd.DataFrame]]:
    """Writes a run of two policies; returns its own folder, and the labels by their folders."""
    stages, tables = [], {}
    for number, policy in enumerate(("pretrained", "dpo")):
        samples = f"sample-evaluation-{policy}-{number:012d}"
        sides = {
            f"verify-evaluation-{policy}-{number:012d}": {"accept": 0.0, "motion": 1.0},
            f"label-evaluation-{policy}-{number:012d}": {"motion": 9.0, "overall": 3.0},
            f"label-evaluation-{policy}-other-{number:012d}": {"motion": 99.0},
        }
        for name, scores in sides.items():
            (workdir / name).mkdir()
            table = labels(policy, len(tables), **scores)
            tables[name] = table.assign(score=table.get("accept", table[[*scores][-1]]))
            tables[name].to_parquet(workdir / name / "labels.parquet")
            settings = {"inputs": {"samples": samples}}
            (workdir / name / "settings.json").write_text(json.dumps(settings))
        stages += sides
    clips = {p: f"sample-evaluation-{p}-{n:012d}" for n, p in enumerate(("pretrained", "dpo"))}
    truth = {policy: name.replace("sample", "verify") for policy, name in clips.items()}
    record = RunRecord("own:mini", tuple(stages), clips, truth)
    folder = run_folder(workdir, record.name, stages)
    folder.mkdir(parents=True)
    for place in (workdir, folder):
        write_record(place, record)
    return folder, tables
