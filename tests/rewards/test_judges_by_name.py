import dataclasses

import pytest

from vidpref.config.by_name import config_yaml, named_config
from vidpref.rewards import by_name
from vidpref.rewards.by_name import judge_config, open_judge
from vidpref.rewards.registry import REWARDS

REMOTE = ("reward.remote_judge.base_url=http://judge:8000/v1", "reward.remote_judge.model=m")


def test_a_judge_of_the_registry():
    judge = open_judge(judge_config("verifier", dimensions=("motion_quality", "accept")))
    assert judge.reward.dimensions == ("motion_quality", "accept")
    assert judge.name == "verifier"
    assert str(judge) == f"verifier {judge.fingerprint}"


def test_every_judge_can_be_named():
    for name in REWARDS:
        assert judge_config(name, dimensions=("accept",)).reward.name == name


def test_its_fingerprint_changes_with_what_it_says_and_not_with_where_it_is():
    def fingerprint(*more, dimensions=()):
        return open_judge(judge_config("remote_judge", [*REMOTE, *more], dimensions)).fingerprint

    first = fingerprint()
    assert fingerprint("reward.remote_judge.base_url=http://other:8000/v1") == first
    assert fingerprint("reward.remote_judge.retries=9") == first
    assert fingerprint("reward.remote_judge.frames=4") != first
    assert fingerprint(dimensions=("visual_quality",)) != first


def test_the_judge_of_a_finished_run(tmp_path):
    config = named_config("dpo_aif:mini", ["reward.dimension=motion_quality"])
    (tmp_path / "config.yaml").write_text(config_yaml(config))
    assert judge_config(str(tmp_path)).reward.name == config.reward.name == "verifier"
    assert open_judge(judge_config(str(tmp_path))).reward.dimensions == ("motion_quality",)


def test_a_folder_goes_to_the_judge_whose_files_it_has(tmp_path):
    folder = str(tmp_path)
    with pytest.raises(ValueError, match=r"model_config.json \(video_reward\), config.json \(vlm_"):
        by_name._of_folder(folder, [])
    for name, mark in (("vlm_judge", "config.json"), ("video_reward", "model_config.json")):
        (tmp_path / mark).touch()  # a reward model's folder has both
        assert by_name._of_folder(folder, []) == [
            f"reward.name={name}",
            f"reward.{name}.folder={folder}",
        ]
    assert by_name._of_folder(folder, ["reward.name=vlm_judge"]) == [
        f"reward.vlm_judge.folder={folder}"
    ]
    with pytest.raises(ValueError, match="'verifier' is no judge that is read from a folder"):
        by_name._of_folder(folder, ["reward.name=verifier"])


def test_a_judge_of_a_folder_scores_all_that_it_can(monkeypatch, tmp_path):
    video_reward = REWARDS["video_reward"]
    spec = dataclasses.replace(video_reward, scores=lambda section: ("overall", "look"))
    monkeypatch.setitem(REWARDS, "video_reward", spec)
    (tmp_path / "model_config.json").touch()
    reward = judge_config(str(tmp_path)).reward
    assert (reward.dimension, reward.dimensions) == ("overall", ("overall", "look"))
    assert reward.video_reward.folder == str(tmp_path)
    assert judge_config(str(tmp_path), dimensions=("look",)).reward.dimensions == ("look",)
    chosen = judge_config(str(tmp_path), ["reward.dimension=look"]).reward
    assert (chosen.dimension, chosen.dimensions) == ("look", ())


def test_a_folder_of_nothing(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        judge_config(str(tmp_path))


@pytest.mark.parametrize(
    ("judge", "overrides", "dimensions", "message"),
    [
        ("verifyer", (), (), "no judge 'verifyer': .*did you mean verifier"),
        ("verifier", ("align.beta=3",), (), r"config\.align\.beta does nothing where clips are"),
        ("verifier", ("reward.name=remote_judge",), (), "the judge 'verifier': give one of them"),
        ("verifier", ("reward.dimension=accept",), ("accept",), "the dimensions are given twice"),
        ("verifier", ("reward.dimenson=a",), (), "no field 'reward.dimenson'; did you mean"),
    ],
)
def test_judges_that_are_none(judge, overrides, dimensions, message):
    with pytest.raises(ValueError, match=message):
        judge_config(judge, overrides, dimensions)


def test_settings_that_a_judge_lacks():
    with pytest.raises(ValueError, match=r"needs config\.reward\.remote_judge\.base_url"):
        open_judge(judge_config("remote_judge"))
    with pytest.raises(ValueError, match="no dimension 'beauty'"):
        open_judge(judge_config("verifier", dimensions=("beauty",)))
