"""Made-up evaluations and reports that look like real ones."""

import numpy as np
import pandas as pd

from vidpref.evaluation.changes import verdict_changes
from vidpref.evaluation.report import ClipRow, JudgedClip, ReportData
from vidpref.evaluation.statistics import evaluation_json
from vidpref.evaluation.tables import Table

CATEGORIES = (
    "deformable", "directional movement", "falling down", "multiple objects", "object removal",
)  # fmt: skip
RATES = {"pretrained": 0.47, "sft": 0.485, "rwr": 0.7, "dpo": 0.6, "dpo_round2": 0.72}


def clip_table(
    rates: dict[str, float], *, prompts: int = 60, samples: int = 4, seed: int = 0
) -> pd.DataFrame:
    """Clips whose difficulty varies by prompt, and whose noise is shared by the policies."""
    rng = np.random.default_rng(seed)
    rows = []
    for split in ("train", "test"):
        for i in range(prompts):
            hardness = rng.normal(0, 0.2)
            noise = rng.uniform(size=samples)
            for policy, rate in rates.items():
                bonus = 0.1 * (split == "train" and policy != "pretrained")
                for sample in range(samples):
                    accept = float(noise[sample] < rate + bonus + hardness)
                    category = CATEGORIES[i % len(CATEGORIES)]
                    rows.append((policy, split, category, f"{split} {i}", sample, accept))
    columns = ["policy", "split", "category", "prompt", "sample", "accept"]
    return pd.DataFrame(rows, columns=columns)


def moving_square(
    colour: tuple[int, int, int], *, frames: int = 8, side: int = 16, moves: bool = True
) -> np.ndarray:
    """A coloured square that goes from left to right on a grey ground."""
    clip = np.full((frames, side, side, 3), (205, 208, 204), np.uint8)
    clip[:, -3:] = (120, 104, 90)
    for t in range(frames):
        x = 1 + (side - 7) * t // max(1, frames - 1) if moves else 1
        clip[t, side // 2 - 2 : side // 2 + 3, x : x + 5] = colour
    return clip


def report_data(*, rows: int = 6, policies: dict[str, float] | None = None) -> ReportData:
    """Everything a report can show."""
    policies = policies or {k: RATES[k] for k in ("pretrained", "dpo")}
    rng = np.random.default_rng(1)
    colours = {"red": (214, 60, 48), "blue": (40, 84, 200), "green": (34, 150, 70)}
    before_after, judged = [], []
    for i in range(rows):
        name, colour = list(colours.items())[i % 3]
        good = {p: bool(rng.uniform() < rate) for p, rate in policies.items()}
        good["pretrained"] = i % 3 == 2
        before_after.append(
            ClipRow(
                f"pushing {name} square from left to right past the table",
                CATEGORIES[i % 5],
                "test" if i % 4 else "train",
                {p: moving_square(colour, moves=ok) for p, ok in good.items()},
                good,
                {p: "" if ok else f"moved: the square of {p} rests" for p, ok in good.items()},
                name=f"square-{i}",
            )
        )
        judged.append(
            JudgedClip(
                f"moving {name} square to the right",
                moving_square(colour, moves=bool(i % 2)),
                bool(i % 2),
                "every rule holds"
                if i % 2
                else "moved: the square travels 0.0 of 6 pixels <right>",
            )
        )
    steps = np.arange(0, 600, 5)
    loss = 0.05 + 0.5 * np.exp(-steps / 120) + rng.normal(0, 0.015, len(steps))
    pretrain = [
        {"step": int(s), "loss": float(v), "grad_norm": float(2 * v + 0.1), "learning_rate": 1e-3}
        for s, v in zip(steps, loss, strict=True)
    ]
    align = [
        {"step": s, "loss": 0.69 - 0.001 * s, "pair_accuracy": 0.5 + 0.001 * s,
         "saturation": 0.01 * s, "margin": 0.001 * s,
         "policy_error": float("nan") if s == 40 else 0.1}
        for s in range(0, 150, 10)
    ]  # fmt: skip
    return ReportData(
        title="dpo_aif:mini",
        command="python launch/tpu_run.py --config=dpo_aif:mini --workdir=runs/quickstart "
        "--config.align.beta=500 --config.align.nll_weight=0.5 --config.seed=3",
        config_yaml="align:\n  beta: 500.0\n  method: dpo\n  note: '<b>not markup</b>'\nseed: 3\n",
        environment={"jax": "0.10.2", "devices": "1 x cpu", "date": "2025-01-01 12:00 UTC"},
        evaluation=evaluation_json(clip_table(policies), best_of=(1, 4)),
        changes=verdict_changes(clip_table(policies), "pretrained"),
        made="2025-01-01 12:00 UTC, vidpref 0.1.0 (abc1234), 1 x cpu",
        curves={"pretrain": pretrain, "align-dpo": align},
        timings=[("data", 14.2, True), ("pretrain", 201.4, False), ("sample", 11.9, False),
                 ("label", 2.3, False), ("align-dpo", 41.0, False), ("evaluate", 9.5, False)],
        before_after=before_after,
        judged=judged,
        accounts=[Table("Alignment with DPO", ["What", "Count"], [["pairs that train", 591]])],
        tables=[Table("Pairs", ["Made from", "Prompts", "Share"],
                      [["accepted x rejected", 355, 0.8875], ["none | one kind only", 45, None]])],
    )  # fmt: skip
