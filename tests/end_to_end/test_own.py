"""A folder of one's own videos, from its captions to clips side by side, without a judge."""

import json

import numpy as np

from tests.end_to_end.tiny import TINY_FLOW
from vidpref.datasets.video_writing import encode_clip
from vidpref.generation.adopt import load_config
from vidpref.runs import report, rounds


def write_folder(root):
    (root / "videos").mkdir(parents=True)
    lines = ["file,caption"]
    for i in range(20):
        frames = np.full((9, 24, 40, 3), 12 * i, np.uint8)
        frames[:, :, i : i + 8] = np.arange(0, 90, 10, dtype=np.uint8)[:, None, None, None]
        encode_clip(root / "videos" / f"{i}.mp4", frames, fps=8)
        lines.append(f'{i}.mp4,"shade {i}, with a bar that brightens"')
    (root / "captions.csv").write_text("\n".join(lines))


def test_a_folder_of_ones_own_videos(tmp_path):
    write_folder(tmp_path / "clips")
    tiny = [field for field in TINY_FLOW if not field.startswith("label.")]
    config = load_config("own:mini", [*tiny, f"data.path={tmp_path / 'clips'}"])
    done = rounds.run(config, tmp_path / "run")
    page = report.write_run_report(done, command="test").read_text()
    names = [finished.stage.name for finished in done.stages]
    assert "align-realdpo-round1" in names
    assert not any(name.startswith("label") for name in names)
    assert "with a bar that brightens" in page
    assert ".mp4" in page
    data = next(f.path for f in done.stages if f.stage.name == "data")
    info = json.loads(next(data.rglob("dataset_info.json")).read_text())
    clips = {split["name"]: int(split["shardLengths"][0]) for split in info["splits"]}
    assert clips["pretrain"] + clips["prompts_validation"] + clips["prompts_test"] == 20
