"""What online runs noted of their clips, as a table and a picture."""

import numpy as np
import pandas as pd

from tests.benchmark_programs import imported

drifts = imported("drifts")


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
    rows = {(row[0], row[1]): row[2:] for row in drifts.table(found).rows}
    assert len(rows) == 2 * len(drifts.COLUMNS)
    assert rows["nothing", "accepted by the verifier"][:2] == ["0.300", "0.100"]
    assert rows["nothing", "accepted by the verifier"][2].startswith("-20.0 [")
    assert rows["real clips", "accepted by the verifier"][2].startswith("+0.0")
    assert rows["nothing", "contrast"][:2] == ["0.200", "0.200"]
    drifts.draw(tmp_path / "leash.png", found)
    assert (tmp_path / "leash.png").stat().st_size > 10_000
