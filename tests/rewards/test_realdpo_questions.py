"""RealDPO's four dimensions of five questions each, asked of a judge."""

import re

import numpy as np
import pytest

from tests.rewards.test_remote_judge import Server, verdict
from vidpref.config.by_name import PROJECT_ROOT
from vidpref.rewards.by_name import judge_config, judge_version, open_judge
from vidpref.rewards.questions import YES_NO

DIMENSIONS = ("visual_alignment", "text_alignment", "motion_quality", "human_quality")
FOLDER = PROJECT_ROOT / "data" / "realdpo_templates"


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def config(server, *more, dimensions=DIMENSIONS):
    asked = ("templates=realdpo_templates", "graded=checklists", *more)
    given = (f"base_url={server.url}", "model=m", "min_size=1", "retries=0", "pause=0", *asked)
    return judge_config("remote_judge", [f"reward.remote_judge.{s}" for s in given], dimensions)


def lines(dimension):
    return (FOLDER / "checklists" / f"{dimension}.txt").read_text().splitlines()


def test_a_clip_is_asked_four_times_five_questions(server):
    """No to one question about motion and to all about humans."""
    no = {lines("motion_quality")[3], *lines("human_quality")}
    server.reply = lambda text, times: verdict("No" if any(q in text for q in no) else "Yes.")
    judge = open_judge(config(server)).reward
    clips = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 5, 3), np.uint8)
    found = judge.score(clips, ["two people hug", "a man runs"])
    assert judge.dimensions == DIMENSIONS
    assert {name: scores.tolist() for name, scores in found.scores.items()} == {
        "visual_alignment": [1.0, 1.0],
        "text_alignment": [1.0, 1.0],
        "motion_quality": [pytest.approx(0.8)] * 2,
        "human_quality": [0.0, 0.0],
    }
    texts = {body["messages"][0]["content"][0]["text"] for *_, body in server.requests}
    assert len(server.requests) == len(texts) == 2 * 4 * 5
    assert all(("two people hug" in text) != ("a man runs" in text) for text in texts)


def test_every_question_is_one_that_a_yes_is_good_for():
    every = [line for dimension in DIMENSIONS for line in lines(dimension)]
    assert len(every) == len(set(every)) == 20
    assert all(re.fullmatch(r"(Do|Does|Is|Are) .*\?", line) for line in every)
    assert set(YES_NO) == {"Yes", "No"}


def test_other_questions_are_another_judge(server):
    asked = config(server, dimensions=("motion_quality",))
    ours = config(server, "templates=", dimensions=("motion_quality",))
    assert judge_version(asked.reward) != judge_version(ours.reward)
    with pytest.raises(ValueError, match="templates='nowhere': no such folder, nor in"):
        open_judge(config(server, "templates=nowhere"))
    with pytest.raises(ValueError, match="no dimension 'visual_quality'; did you mean human_qu"):
        open_judge(config(server, dimensions=("visual_quality",)))
