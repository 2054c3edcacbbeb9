"""The claims are about policies that the comparisons make, and verdicts are what intervals say."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.claims import GROUPS, Claim, judge, summary_table
from vidpref.runs import compare
from vidpref.runs.policies import PRETRAINED, policy_name


@pytest.mark.parametrize("name", GROUPS)
def test_every_claim_is_about_policies_of_its_group(name):
    group = GROUPS[name]
    configs = compare.load_configs(group.configs, "mini", ())
    rounds = range(1, group.rounds + 1)
    made = {PRETRAINED, *(policy_name(c, round_) for c in configs for round_ in rounds)}
    for claim in group.claims:
        assert {claim.policy, claim.baseline} <= made, claim.text
        assert set(claim.dimensions) <= set(configs[0].reward.dimensions), claim.text


def frame_of(**scores):
    """Three seeds, twenty held-out prompts; a policy's scores are shifted from one noise."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.4, 0.5, size=60)
    rows = []
    for policy, shifts in scores.items():
        for i in range(60):
            row = {"policy": policy, "training_seed": i // 20, "split": "test", "sample": 0}
            row |= {"scene_id": f"s{i % 20}", "prompt": f"p{i % 20}", "category": "c"}
            row |= {name: noise[i] + shift * (1 + 0.01 * (i % 3)) for name, shift in shifts.items()}
            rows.append(row)
    return pd.DataFrame(rows)


def test_verdicts():
    still, moving = (
        {"accept": 0.0, "visual_quality": 0.0, "motion_quality": x, "object_motion": y}
        for x, y in ((0.0, 0.0), (0.2, -0.2))
    )
    claim = Claim("it moves", "a lot", "b", "a", ("motion_quality", "object_motion"))
    rows = judge(claim, frame_of(a=still, b=moving))
    assert [row[-1] for row in rows] == ["holds", "does not hold"]
    assert [row[2] for row in rows] == ["motion quality", "object motion"]
    assert rows[0][3].value == pytest.approx(0.202, abs=1e-3)
    assert rows[0][4] == "100.0"

    again = [["it stays", "a bit", "accept", "+0.0 [-1.0, +1.0]", None, "unresolved"]]
    table = summary_table({"first": rows, "second": again})
    (first, second) = table.rows
    assert first[0] == "it moves"
    assert first[3:] == ["holds: motion quality; does not hold: object motion", "`--only=first`"]
    assert first[2].startswith("motion quality +20.2 [")
    assert second[2:] == ["accept +0.0 [-1.0, +1.0]", "unresolved", "`--only=second`"]
