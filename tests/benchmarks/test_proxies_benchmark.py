"""benchmarks/proxies.py: whose judges score whose clips, and that none is scored twice."""

import pytest
from claimed import measuring, proxies

from vidpref.runs.methods import open_recipe


@pytest.fixture
def opened(tmp_path):
    chosen = proxies.FEEDBACK
    configs = measuring.load_configs(chosen.group, (), 8)
    recipes = {
        name: open_recipe(config, tmp_path)
        for name, config in zip(chosen.group.configs, configs, strict=True)
    }
    return chosen, recipes


def test_the_truth_is_the_verifiers_and_each_judge_is_that_of_a_run(opened):
    chosen, recipes = opened
    assert set(chosen.judges.values()) <= set(recipes)
    drawn = proxies.policies_of(recipes)
    assert set(drawn) == {"pretrained", *recipes}
    samples = [stage.folder for stage, _ in drawn.values()]
    assert len(set(samples)) == len(samples)
    for name, (_, true) in drawn.items():
        assert true.name == f"verify-evaluation-{name}"


def test_what_a_run_asked_its_own_judge_is_not_asked_again(opened):
    chosen, recipes = opened
    drawn = proxies.policies_of(recipes)
    every = set()
    for owner in chosen.judges.values():
        recipe = recipes[owner]
        first, trained = recipe.policies(1).values()
        for policy in (first, trained):
            samples = recipe.evaluation(policy).samples
            asked = recipe.label_stage(f"label-evaluation-{policy.name}", samples, recipe.judged)
            assert asked.folder == recipe.evaluation(policy).proxy.folder
        for name, (samples, _) in drawn.items():
            every.add(recipe.label_stage(f"label-evaluation-{name}", samples, recipe.judged).folder)
    assert len(every) == len(chosen.judges) * len(drawn)
