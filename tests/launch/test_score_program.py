"""The programs that have videos scored and measure a judge, as a user types them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from vidpref.datasets.miniworld import PROMPTS, defective_scene, render, scene
from vidpref.datasets.video_writing import encode_clip
from vidpref.storage.bucket import Bucket
from vidpref.storage.copies import path_of

ROOT = Path(__file__).resolve().parents[2]
VOTED = PROMPTS[::13][:4]


def program(name, *argv):
    command = [sys.executable, f"launch/{name}.py", *map(str, argv)]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def write_video(path, world):
    """A clip of the mini world, large enough for the colours of a video file."""
    encode_clip(path, render(world, scale=2).repeat(4, axis=1).repeat(4, axis=2), 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Votes for clips of the mini world that do as they are told, against clips that stand still;
    a tie, a row without a label and one without a prompt."""
    folder = tmp_path_factory.mktemp("benchmark")
    rows = []
    for number, prompt in enumerate(VOTED):
        good, still, again = (f"v/{number}-{kind}.mp4" for kind in ("good", "still", "again"))
        (folder / "v").mkdir(exist_ok=True)
        write_video(folder / good, scene(prompt, 7))
        write_video(folder / again, scene(prompt, 8))
        write_video(folder / still, defective_scene(prompt, 7, "static"))
        rows += [
            f'{good},{still},"{prompt.text}",A,8',
            f'{still},{again},"{prompt.text}",B,8',
            f'{good},{again},"{prompt.text}",same,8',
        ]
    rows += [f'{good},{again},"{prompt.text}",,8', f"{good},{again},,A,8"]
    (folder / "pairs.csv").write_text("\n".join(["path_A,path_B,prompt,Overall,fps_A", *rows]))
    return folder


@pytest.fixture(scope="module")
def scored(folder):
    out = folder / "out" / "scores.parquet"
    done = program("score", "--judge=verifier", f"--videos={folder / 'pairs.csv'}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out, done


def test_scores_of_all_clips_of_pairs(folder, scored):
    out, done = scored
    table = pd.read_parquet(out)
    assert len(table) == 12
    assert table["accept"].tolist() == [float("still" not in name) for name in table["clip"]]
    assert set(table["seen"]) == set(table["frames"]) == {8}
    assert set(table["height"]) == {128}
    assert "12 of 12 clips scored by verifier" in done.stdout
    assert f"left out of {folder}/pairs.csv:\n     1  malformed row\n" in done.stdout
    assert "accept: mean 0.667, from 0.000 to 1.000" in done.stdout
    assert "score 12/12 done in" in done.stderr


def test_a_judge_is_measured_and_shown(folder, scored):
    out, _ = scored
    pairs, measured = folder / "pairs.csv", folder / "m"
    done = program("evaluate_judge", f"--pairs={pairs}", f"--scores={out}", f"--out={measured}")
    assert done.returncode == 0, done.stderr
    (row,) = pd.read_csv(folder / "m" / "accuracy.csv").to_dict("records")
    assert (row["dimension"], row["columns"], row["votes"], row["prompts"]) == (
        "overall",
        "accept",
        12,
        4,
    )
    assert (row["with_ties"], row["without_ties"], row["kappa"]) == (1.0, 1.0, 1.0)
    # where a missing label is wrong
    assert row["official"] == pytest.approx(12 / 13)
    assert (row["unlabelled"], row["failed"]) == (1, 0)
    assert 0.3 < row["random"] < 0.7
    assert "overall (accept)" in (folder / "m" / "accuracy.md").read_text()
    lines = (folder / "m" / "left_out.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lines[1:]] == [
        "the vote is missing",
        "the prompt is empty",
    ]
    assert PIL.Image.open(folder / "m" / "accuracy.png").size[0] == 1350
    assert "1 times no label; 1 times malformed row" in done.stdout


def test_a_judge_that_is_asked_knows_what_it_said(folder, scored):
    done = program(
        "evaluate_judge", "--judge=verifier", f"--pairs={folder / 'pairs.csv'}",
        f"--cache={folder / 'out' / 'score_cache'}", f"--out={folder / 'asked'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "asked" / "scores.parquet"), pd.read_parquet(scored[0])
    )
    before = list((folder / "out" / "score_cache").rglob("*.parquet"))
    assert len(before) == 1


def test_what_is_read_may_be_in_a_bucket(folder, scored, address, tmp_path):
    bucket, out = Bucket(address), tmp_path / "scores.parquet"
    for path in (folder / "pairs.csv", *(folder / "v").iterdir()):
        bucket.put_file(f"data/{path.relative_to(folder)}", path)
    bucket.put("data/another.mp4", b"that no list names")
    pairs, scores = f"{address}/data/pairs.csv", f"{address}/scores.parquet"
    done = program("score", "--judge=verifier", f"--videos={pairs}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(scored[0]))
    assert not path_of(f"{address}/data/another.mp4").exists()
    bucket.put_file("scores.parquet", out)
    done = program(
        "evaluate_judge", f"--pairs={pairs}", f"--scores={scores}", f"--out={tmp_path / 'm'}"
    )
    assert done.returncode == 0, done.stderr
    (row,) = pd.read_csv(tmp_path / "m" / "accuracy.csv").to_dict("records")
    assert (row["votes"], row["with_ties"]) == (12, 1.0)
    for flag, why in (
        (f"--videos={address}/none", f"{address}/none: there is no such file or folder in the b"),
        ("--videos=s3://bucket/a", "--videos=s3://bucket/a: of buckets vidpref knows those of G"),
        (f"--cache={address}", f"--cache={address}: this is written on a file system only"),
    ):
        done = program("score", "--judge=verifier", "--videos=x", flag, f"--out={out}")
        assert done.returncode == 1
        assert why in done.stderr
        assert "Traceback" not in done.stderr


def test_where_nothing_can_be_scored_the_table_says_why(folder, tmp_path):
    (folder / "one").mkdir(exist_ok=True)
    encode_clip(folder / "one" / "still.mp4", np.zeros((1, 16, 16, 3), np.uint8), 8)
    done = program(
        "score", "--judge=verifier", f"--videos={folder / 'one'}", "--prompt=a cat",
        f"--out={tmp_path / 'x.csv'}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "no clip was scored" in done.stderr
    assert "Traceback" not in done.stderr
    assert "a single frame is a picture" in (tmp_path / "x.csv").read_text()


@pytest.mark.parametrize("name", ["score", "evaluate", "evaluate_judge"])
def test_help_is_there_without_jax(name):
    source = f"import sys; import launch.{name}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT).returncode == 0
