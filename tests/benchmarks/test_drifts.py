"""What policies do over the steps: of runs that watched their clips, and of kept checkpoints."""

import numpy as np
import pandas as pd
import pytest
from claimed import drifting

from tests.end_to_end.tiny import TINY_FLOW
from vidpref.generation.adopt import load_config
from vidpref.runs import rounds

KEPT = (
    *("align.train.steps=4", "align.train.checkpoint_every=2", "align.train.keep_last=2"),
    *("align.train.optimizer.learning_rate=0.05", "align.train.optimizer.warmup_steps=0"),
)


def run(rise, seed):
    """A run of 40 steps whose reward rises by `rise`; how clips look is logged at every tenth."""
    noise = np.random.default_rng(seed).normal(0, 0.001, 40)
    frame = pd.DataFrame(index=pd.RangeIndex(1, 41, name="step"))
    frame["reward"] = 0.5 + rise * (frame.index > 20) + noise
    frame["truth"] = 0.3 - rise * (frame.index > 20)
    logged = frame.index % 10 == 0
    for name in ("look/contrast", "look/colour", "look/motion"):
        frame[name] = np.where(logged, 0.2, np.nan)
    return frame


def test_first_and_last_steps_are_compared_and_drawn(tmp_path):
    found = {
        "nothing": [run(0.2, seed) for seed in range(3)],
        "real clips": [run(0.0, seed) for seed in range(3)],
    }
    rows = {(row[0], row[1]): row[2:] for row in drifting.table(found, 10).rows}
    assert len(rows) == 2 * len(drifting.COLUMNS)
    assert rows["nothing", "accepted by the verifier"][:2] == ["0.300", "0.100"]
    assert rows["nothing", "accepted by the verifier"][2].startswith("-20.0 [")
    assert rows["real clips", "accepted by the verifier"][2].startswith("+0.0")
    assert rows["nothing", "contrast"][:2] == ["0.200", "0.200"]
    drifting.draw(tmp_path / "leash.png", found, 10)
    assert (tmp_path / "leash.png").stat().st_size > 10_000


def test_a_window_of_one_step_takes_the_ends():
    found = {"DPO": [run(0.2, seed).iloc[9::10] for seed in range(2)]}
    rows = {row[1]: row[2:] for row in drifting.table(found, 1).rows}
    assert rows["accepted by the verifier"][:2] == ["0.300", "0.100"]


def test_every_checkpoint_is_asked_for_the_same_clips(tmp_path):
    tiny = [field for field in TINY_FLOW if not field.startswith("label.")]
    config = load_config(
        "flow_sft:mini",
        [*tiny, *KEPT, "align.rows=real", "align.real_clips=8", "align.lora.rank=0"],
    )
    rounds.run(config, tmp_path)
    recipe, policy = drifting.opened(tmp_path, config, config.seed)
    found = drifting.of_checkpoints(recipe, policy, 1)
    assert found.index.tolist() == [0, 2, 4]
    assert found.columns.tolist() == list(drifting.COLUMNS)
    for step, load in ((0, recipe.pretrained.load_generator), (4, policy.load_generator)):
        again = drifting.means(recipe, policy, load(), 1)
        for name in drifting.COLUMNS:
            assert found.at[step, name] == pytest.approx(again[name], abs=1e-6)
    assert not np.allclose(found.loc[0], found.loc[4], atol=1e-6)
    with pytest.raises(drifting.NoRunError, match="was not watched"):
        drifting.watched(recipe, policy)
    with pytest.raises(drifting.NoRunError, match="is not there"):
        drifting.opened(tmp_path, config, config.seed + 1)
