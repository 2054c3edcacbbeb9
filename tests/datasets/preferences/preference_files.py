"""Small data sets of each layout; empty files stand for clips, which no reader opens."""

import csv
import json

HEADER = [
    *("path_A", "path_B", "prompt", "VQ", "MQ", "TA"),
    *("fps_A", "num_frames_A", "fps_B", "num_frames_B"),
]


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_csv(root, *rows, header=HEADER):
    path = root / "pairs.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_json_lines(root, *records):
    path = root / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_videodpo(root, metadata, pairs):
    (root / "metadata.json").write_text(json.dumps(metadata))
    (root / "pair.json").write_text(json.dumps(pairs))
    return root


def write_realdpo(root, videos, prompts, negatives):
    (root / "video.txt").write_text("\n".join(videos) + "\n")
    (root / "prompt.txt").write_text("\n".join(prompts) + "\n")
    touch(root, *videos, *(f"negative_samples/{name}.mp4" for name in negatives))
    return root


def rows_of(frame, *columns):
    return list(frame[list(columns)].itertuples(index=False, name=None))
