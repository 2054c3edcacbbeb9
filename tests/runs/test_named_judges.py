"""Several judges, each with its dimensions and its own fields."""

import pytest

from vidpref.config.by_name import config_yaml, named_config
from vidpref.rewards.registry import dimensions_of
from vidpref.runs.named_judges import judge_configs

REMOTE = ("reward.remote_judge.base_url=http://judge:8000/v1", "reward.remote_judge.model=m")


def test_dimensions_stand_behind_a_colon():
    found = judge_configs(["verifier:motion_quality+accept", "remote_judge"], REMOTE)
    assert list(found) == ["verifier", "remote_judge"]
    assert dimensions_of(found["verifier"].reward) == ("motion_quality", "accept")
    assert found["verifier"].reward.name == "verifier"
    assert found["remote_judge"].reward.remote_judge.model == "m"
    assert found["verifier"].reward.remote_judge.model == ""


def test_the_fields_of_a_runs_judge_are_known_by_its_name(tmp_path):
    run = tmp_path / "a:run"  # a folder with a colon and no dimension behind it
    run.mkdir()
    changes = ["reward.name=remote_judge", *(f"{o}" for o in REMOTE)]
    (run / "config.yaml").write_text(config_yaml(named_config("dpo_aif:mini", changes)))
    found = judge_configs([f"{run}/", "verifier"], ["reward.remote_judge.model=other"])
    assert found[f"{run}/"].reward.remote_judge.model == "other"


@pytest.mark.parametrize(
    ("judges", "overrides", "message"),
    [
        (["verifier", "verifier:accept"], [], "--judges: verifier is there twice"),
        (["verifier:"], [], "write JUDGE or JUDGE:DIMENSION"),
        ([":accept"], [], "write JUDGE or JUDGE:DIMENSION"),
        (["verifier"], REMOTE, "reward.remote_judge.base_url: none of the judges has this name"),
        (["remote_judge"], [], "base_url"),
        (["verifier:accpt"], [], "no dimension 'accpt'; did you mean accept"),
    ],
)
def test_mistakes_are_named(judges, overrides, message):
    with pytest.raises(ValueError, match=message):
        judge_configs(judges, overrides)
