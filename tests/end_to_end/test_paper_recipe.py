"""The recipe of the `paper` scale on small encoded videos: real decoding, remote judge, cascade."""

import http.server
import json
import threading
import zlib

import numpy as np
import pandas as pd
import pytest

from vidpref.datasets.miniworld import prompts, render, scene
from vidpref.datasets.video_writing import encode_clip
from vidpref.generation.adopt import load_config
from vidpref.runs import report, rounds

# The paper config with a small network and short stages; everything else as it stands.
SMALL = (
    "compute_dtype=float32",
    "mesh.fsdp=2",
    "mesh.context=2",
    "text.name=words",
    "text.length=16",
    "text.dim=8",
    *(f"{model}.unet3d.{field}" for model in ("model", "superres.model") for field in (
        "features=(16,)", "blocks=(1,)", "spatial=(True,)", "temporal=(True,)", "cross=(True,)",
        "head_dim=8", "cond_dim=16", "groups=4",
    )),
    "data.frames=4",
    "data.height=8",
    "data.width=16",
    "data.high_height=16",
    "data.high_width=32",
    "sampler.steps=2",
    "sampler.batch_size=8",
    "superres.sampler_steps=2",
    *(f"{stage}.train.{field}" for stage in ("pretrain", "superres", "align") for field in (
        "steps=2", "batch_size=8", "checkpoint_every=1", "optimizer.warmup_steps=1",
    )),
    "align.validation.prompts=2",
    "align.validation.per_prompt=2",
    "label.per_prompt=4",
    "evaluate.per_prompt=4",
    "evaluate.best_of=(2,4)",
)  # fmt: skip


class _Judge(http.server.BaseHTTPRequestHandler):
    """A chat server that accepts by the bytes it was sent, and counts its questions."""

    asked = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        word = "Accept" if zlib.crc32(body) % 2 else "Reject"
        answer = json.dumps({"choices": [{"message": {"content": word}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def judge_url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def _videos(count):
    chosen = [p for p in prompts("train")[:: len(prompts("train")) // count]][:count]
    for i, prompt in enumerate(chosen):
        clip = render(scene(prompt, i), scale=2)
        yield prompt, np.pad(clip, ((0, 0), (0, 0), (16, 16), (0, 0)), mode="edge")


def _folder(root):
    (root / "videos").mkdir(parents=True)
    rows = []
    for i, (prompt, clip) in enumerate(_videos(12)):
        suffix, codec = (("mp4", "h264"), ("webm", "vp9"))[i % 2]
        encode_clip(root / "videos" / f"{i}.{suffix}", clip, fps=12, codec=codec)
        split = ("train", "train", "validation", "test")[i % 4]
        rows.append((f"{i}.{suffix}", prompt.text, split, prompt.category))
    columns = ["file", "caption", "split", "category"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "captions.csv", index=False)


def _something_something(root):
    (root / "videos").mkdir(parents=True)
    labels = {"train": [], "validation": []}
    lines = []
    for i, (prompt, clip) in enumerate(_videos(12)):
        encode_clip(root / "videos" / f"{i}.webm", clip, fps=12, codec="vp9")
        label = {"id": str(i), "label": prompt.text, "template": prompt.action, "placeholders": []}
        labels["train" if i < 6 else "validation"].append(label)
        if i >= 6:
            lines.append((prompt.category, "test" if i % 3 == 2 else "train", i, prompt.text))
    for split, entries in labels.items():
        (root / f"{split}.json").write_text(json.dumps(entries))
    columns = ["category", "split", "number", "prompt"]
    pd.DataFrame(lines, columns=columns).to_csv(root / "prompts.csv", index=False)


@pytest.mark.parametrize(
    "data", ["video_folder", pytest.param("something_something_v2", marks=pytest.mark.slow)]
)
def test_the_paper_recipe_runs_on_encoded_clips(tmp_path, judge_url, data):
    root = tmp_path / "clips"
    {"video_folder": _folder, "something_something_v2": _something_something}[data](root)
    overrides = [
        *SMALL,
        f"data.name={data}",
        f"data.path={root}",
        f"reward.remote_judge.base_url={judge_url}",
        "reward.remote_judge.model=test",
    ]
    if data == "something_something_v2":
        overrides += [f"data.prompts={root / 'prompts.csv'}", "data.validation_fraction=0.5"]
    before = _Judge.asked
    done = rounds.run(load_config("dpo_aif:paper", overrides), tmp_path / "run")
    report.write_run_report(done, command="test")

    stages = [f.stage.name for f in done.stages]
    for stage in ("pretrain", "superres", "align-dpo-round1", "label-evaluation-dpo"):
        assert stage in stages
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert set(evaluation["policies"]) == {"pretrained", "dpo"}
    assert evaluation["best_of_n"]["dpo"]["test"]["of"] == 4
    judged = sum(
        entry["n"] for splits in evaluation["policies"].values() for entry in splits.values()
    )
    assert _Judge.asked - before > judged  # evaluation clips, training clips and validation clips


@pytest.mark.parametrize(
    ("overrides", "lacks"),
    [([], r"text\.path"), (["text.name=words"], r"config\.reward\.remote_judge\.base_url")],
)
def test_a_full_size_paper_config_names_what_it_lacks(overrides, lacks, tmp_path):
    with pytest.raises(ValueError, match=lacks):
        rounds.run(load_config("dpo_aif:paper", overrides), tmp_path)
