import shutil

import numpy as np
import pandas as pd
import pytest

from tests.rewards.test_remote_judge import Server, verdict
from vidpref.datasets.clip_lists import list_clips
from vidpref.datasets.video_writing import encode_clip
from vidpref.rewards.by_name import NamedJudge
from vidpref.rewards.questions import verdict_question
from vidpref.rewards.remote_judge import RemoteJudge
from vidpref.rewards.reward import Judgement
from vidpref.rewards.score_store import ScoreStore
from vidpref.runs import score_videos
from vidpref.runs.score_videos import Showing, account


class Brightness:
    """A judge of how bright a clip is and how long; says nothing of dark ones."""

    dimensions = ("brightness", "length")

    def __init__(self):
        self.asked = []

    def score(self, clips, prompts):
        self.asked += prompts
        if "refuse" in prompts:
            raise ValueError("no such prompt")
        grey = clips.mean((1, 2, 3, 4)).astype(np.float32)
        length = np.full(len(clips), clips.shape[1], np.float32)
        dark = {row: "too dark" for row in np.flatnonzero(grey < 50).tolist()}
        grey[list(dark)] = np.nan
        scores = {"brightness": grey, "length": length}
        return Judgement(scores, [f"it is {p}" for p in prompts], dark)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, grey, frames, size in (
        ("a", 100, 4, 16),
        ("b", 200, 4, 16),
        ("dark", 10, 4, 16),
        ("large", 100, 4, 32),
        ("long", 150, 6, 16),
        ("refused", 100, 4, 16),
        ("still", 100, 1, 16),
    ):
        encode_clip(folder / f"{name}.mp4", np.full((frames, size, size, 3), grey, np.uint8), 8)
    (folder / "broken.mp4").write_text("no video")
    names = ["a", "b", "dark", "large", "long", "refused", "still", "broken", "gone"]
    prompts = ["refuse" if name == "refused" else name for name in names]
    listed = [
        f"{name}.mp4,{prompt},{24 if name == 'long' else ''}"
        for name, prompt in zip(names, prompts, strict=True)
    ]
    (folder / "list.csv").write_text("\n".join(["path,prompt,fps", *listed]))
    return folder


def run(videos, store, *, judge=None, **showing):
    judge = judge or Brightness()
    named = NamedJudge(judge, "brightness", {"version": "1"})
    clips = list_clips(videos / "list.csv").clips
    table = score_videos.score_videos(clips, named, ScoreStore(store, named), Showing(**showing))
    return table.set_index("prompt"), judge


def test_scores_and_what_was_seen(videos, tmp_path):
    table, judge = run(videos, tmp_path)
    assert table["brightness"][["a", "b", "large"]].tolist() == pytest.approx([100, 200, 100], 0.02)
    assert table["clip"]["a"] == "a.mp4"
    about = table.loc["large", ["seen", "frames", "height", "width", "fps", "reason", "failure"]]
    assert about.tolist() == [4, 4, 32, 32, 8.0, "it is large", ""]
    assert set(judge.asked) == {"a", "b", "dark", "large", "refuse"}


def test_what_cannot_be_scored_says_why(videos, tmp_path):
    table, judge = run(videos, tmp_path)
    failures = table["failure"][table["failure"] != ""].to_dict()
    assert failures == {
        "dark": "too dark",
        "long": "wrong fps: the list says 24, the file 8",
        "refuse": "refused: no such prompt",
        "still": "too_short: a single frame is a picture, not a video",
        "broken": "not_a_video: Invalid data found when processing input",
        "gone": "missing: no such file",
    }
    assert table["length"]["dark"] == 4  # its other dimension is known
    assert np.isnan(table["length"]["long"])
    text = account(table.reset_index(), NamedJudge(judge, "brightness", {}))
    assert text.startswith("3 of 9 clips scored by brightness ")
    assert "6 without a score in every dimension:" in text
    assert "still.mp4: too_short: a single frame" in text


def test_nobody_is_asked_twice_wherever_the_file_lies(videos, tmp_path):
    first, _ = run(videos, tmp_path / "store")
    moved = tmp_path / "moved"
    shutil.copytree(videos, moved)
    (moved / "a.mp4").rename(moved / "z.mp4")
    (moved / "list.csv").write_text("path,prompt\nz.mp4,a\nb.mp4,b\nb.mp4,b\na.mp4,other\n")
    shutil.copyfile(moved / "z.mp4", moved / "a.mp4")
    again, judge = run(moved, tmp_path / "store")
    assert judge.asked == ["other"]  # the same clip, another prompt
    columns = ["brightness", "length", "fps", "seen", "reason"]
    pd.testing.assert_frame_equal(again.loc[["a", "b"], columns], first.loc[["a", "b"], columns])


def test_another_judge_or_showing_is_asked_anew(videos, tmp_path):
    run(videos, tmp_path)
    fewer, judge = run(videos, tmp_path, frames=2)
    assert fewer["seen"]["large"] == 2
    assert len(judge.asked) > 4
    named = NamedJudge(Brightness(), "brightness", {"version": "2"})
    assert ScoreStore(tmp_path, named).get("x") is None
    assert len(list(tmp_path.glob("brightness-*"))) == 2


def test_a_run_that_was_stopped_goes_on(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(score_videos, "_SAVE_EVERY", -1.0)
    kept = []

    class Dying(Brightness):
        def score(self, clips, prompts):
            kept.append(len(list(tmp_path.rglob("*.parquet"))))
            if "large" in prompts:
                raise RuntimeError("power is off")
            return super().score(clips, prompts)

    with pytest.raises(RuntimeError, match="power"):
        run(videos, tmp_path, judge=Dying(), batch_size=1)
    assert kept == [0, 1, 2, 2]  # what was said is on disk before the next question
    _, judge = run(videos, tmp_path, batch_size=1)
    assert "a" not in judge.asked
    assert "b" not in judge.asked
    assert "large" in judge.asked


def test_processes_share_the_rows(videos, tmp_path, monkeypatch):
    alone, _ = run(videos, tmp_path / "alone")
    parts, asked = {}, []
    for index in (1, 0):
        monkeypatch.setattr(score_videos.jax, "process_count", lambda: 2)
        monkeypatch.setattr(score_videos.jax, "process_index", lambda index=index: index)

        def gathered(what, mine, index=index):
            parts[index] = mine
            return [parts.get(0, mine), parts[1]] if index == 0 else [parts[1][:0], parts[1]]

        monkeypatch.setattr(score_videos, "gathered", gathered)
        judge = Brightness()
        if index == 1:  # the table is made of the rows of both
            monkeypatch.setattr(score_videos, "_table", lambda clips, *_: clips)
            clips = list_clips(videos / "list.csv").clips
            named = NamedJudge(judge, "brightness", {"version": "1"})
            score_videos.score_videos(
                clips, named, ScoreStore(tmp_path / "two", named), Showing()
            )  # fmt: skip
            monkeypatch.undo()
        else:
            both, _ = run(videos, tmp_path / "two", judge=judge)
        asked.append(set(judge.asked))
    assert not asked[0] & asked[1]
    pd.testing.assert_frame_equal(both, alone)


def test_a_remote_judge_whose_answer_is_unclear_is_asked_again(videos, tmp_path):
    server = Server()
    try:
        answers = {"a": "Accept", "b": "Reject", "large": "I cannot judge people"}
        server.reply = lambda text, times: verdict(answers.get(text, "Accept"))
        questions = {"accept": [verdict_question("{prompt}")]}
        judge = RemoteJudge(server.url, "m", questions, retries=0, pause=0.0, min_size=1)
        named = NamedJudge(judge, "remote_judge", {})
        clips = list_clips(videos / "list.csv").clips.set_index("id", drop=False)
        clips = clips.loc[["a.mp4", "b.mp4", "large.mp4"]]
        tables = []
        for _ in range(2):
            store = ScoreStore(tmp_path, named)
            tables.append(score_videos.score_videos(clips, named, store, Showing()))
            answers["large"] = "Accept"
        asked = [body["messages"][0]["content"][0]["text"] for *_, body in server.requests]
    finally:
        server.close()
    assert sorted(asked) == ["a", "b", "large", "large"]
    np.testing.assert_array_equal(tables[0]["accept"], [1, 0, np.nan])
    assert tables[0]["failure"][2].startswith("accept: neither Accept nor Reject: 'I cannot")
    assert tables[1]["accept"].tolist() == [1, 0, 1]
    assert tables[1]["reason"].tolist() == ["Accept", "Reject", "Accept"]


def test_a_judge_is_told_the_rate_of_what_it_sees(videos, tmp_path):
    class Timed(Brightness):
        def score(self, clips, prompts, fps):
            assert len(fps) == len(clips)
            assert np.allclose(fps, {4: 8.0, 2: 8 / 3}[clips.shape[1]])
            return super().score(clips, prompts)

    run(videos, tmp_path, judge=Timed())
    run(videos, tmp_path, judge=Timed(), frames=2)
