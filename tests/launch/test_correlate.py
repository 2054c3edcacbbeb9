"""The program that correlates automatic scores with people's, as a user types it."""

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from scipy import stats

from tests.launch.programs import Launcher
from tests.launch.test_score_program import program
from tests.runs.verified_runs import write_verified_run


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """What people said of clips of four policies, a judge's scores, and a metric of most clips.

    The judge dislikes what is easy, and orders the clips of each prompt well.
    """
    folder, rng = tmp_path_factory.mktemp("correlate"), np.random.default_rng(0)
    rows = [(policy, prompt, k) for policy in range(4) for prompt in range(9) for k in range(2)]
    policy, prompt, _ = np.transpose(rows)
    easy = 2 * rng.permutation(np.linspace(-1, 1, 9))[prompt]
    good = easy + 0.1 * policy + rng.standard_normal(len(rows))
    people = pd.DataFrame(
        {
            "clip": [f"{p}/{q}-{i}.mp4" for p, q, i in rows],
            "policy": [f"policy {p}" for p in policy],
            "prompt": [f"prompt {q}" for q in prompt],
            "accept": (good > 0).astype(int),
            "look": good,
        }
    )
    judge = people[["clip"]].assign(overall=good - 3 * easy + 0.3 * rng.standard_normal(len(rows)))
    people.to_csv(folder / "people.csv", index=False)
    judge[::-1].to_parquet(folder / "judge.parquet")
    measured = people[["clip"]].assign(constant=0.5, flow=rng.random(len(rows)), failure="")
    measured.loc[len(rows)] = {"clip": "else.mp4", "constant": 0.5, "flow": 1.0, "failure": ""}
    measured[2:].to_csv(folder / "clips.csv", index=False)
    return folder, people.merge(judge, on="clip")


def test_a_judge_and_a_metric_against_people(tables):
    folder, whole = tables
    done = program(
        "correlate", f"--truth={folder / 'people.csv'}", "--of=accept,look",
        f"--scores={folder / 'judge.parquet'},{folder / 'clips.csv'}", f"--out={folder / 'out'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(folder / "out" / "correlations.csv")
    levels = ["clips", "within prompts", "prompts", "policies"]
    assert list(dict.fromkeys(found["level"])) == levels
    found = found.set_index(["level", "proxy", "truth"])
    apart = whole.groupby("prompt")[["overall", "look"]].transform(lambda c: c - c.mean())
    expected = {
        "clips": whole,
        "within prompts": apart,
        "prompts": whole.groupby("prompt")[["overall", "look"]].mean(),
        "policies": whole.groupby("policy")[["overall", "look"]].mean(),
    }
    for level, table in expected.items():
        row = found.loc[level, "judge.overall", "look"]
        r = stats.pearsonr(table["overall"], table["look"])
        assert row["n"] == len(table)
        assert row["pearson"] == pytest.approx(r.statistic)
        if level != "within prompts":
            assert row["pearson_p"] == pytest.approx(r.pvalue)
    # what the levels are for
    assert found.loc["clips", "judge.overall", "look"]["pearson"] < -0.3
    assert found.loc["within prompts", "judge.overall", "look"]["pearson_low"] > 0.5
    constant = found.loc["clips", "clips.constant", "look"]
    assert (constant["n"], constant["note"]) == (70, "clips.constant: the same for all")
    left_out = pd.read_csv(folder / "out" / "left_out.csv")
    assert left_out["path"].tolist() == ["0/0-0.mp4", "0/0-1.mp4", "else.mp4"]
    said = "72 clips, 9 prompts, 4 policies; left out: 2 not in all tables, 1 without truth"
    text = (folder / "out" / "correlations.md").read_text()
    for shown in (done.stdout, text):
        assert f"judge, clips against people: {said}\n" in shown
        assert "clips.constant: the same for all" in shown
    assert "else.mp4: without truth: in clips, not in people" in done.stdout
    assert PIL.Image.open(folder / "out" / "correlations.png").size[0] == 1350


def test_a_run_needs_no_scores(tmp_path, monkeypatch, capsys):
    folder, labels = write_verified_run(tmp_path)
    launch = Launcher(monkeypatch, capsys)
    argv = (
        f"--truth={folder}",
        "--of=motion",
        "--policy=dpo",
        "--split=test",
        f"--out={tmp_path / 'out'}",
    )
    ended = launch("correlate", *argv)
    assert ended.status == 0, ended.text
    found = pd.read_csv(tmp_path / "out" / "correlations.csv")
    row = found[(found["level"] == "clips") & (found["proxy"] == "judge.motion")].iloc[0]
    sides = [
        pd.concat([table for name, table in labels.items() if name.startswith(side)])
        for side in ("verify-evaluation-dpo-0", "label-evaluation-dpo-0")
    ]
    own = [side[side["split"] == "test"]["motion"] for side in sides]
    assert row["n"] == 9
    assert row["pearson"] == pytest.approx(np.corrcoef(*own)[0, 1])
    assert f"written: {tmp_path / 'out' / 'correlations.png'}" in ended.text
    assert not (tmp_path / "out" / "left_out.csv").exists()
