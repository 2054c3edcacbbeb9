"""Metrics over steps, and how the clips of a training on fresh clips drift, as SVG."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from vidpref.evaluation.curves import drift_curves, training_curves

SVG = "{http://www.w3.org/2000/svg}"


def _parse(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(f"<page>{svg}</page>"))


def test_curves_show_losses_first_and_count_what_is_not_drawn():
    records = [
        {"step": s, "lr": 0.1, "train/loss": float("nan") if s == 3 else 1.0 / (s + 1), "note": "x"}
        for s in range(60)
    ]
    records.append({"step": 60, "acceptance": np.float32(0.5)})
    figure = training_curves("align", records)
    panels = _parse(figure.svg)
    assert [p.get("aria-label") for p in panels] == [
        "Train/loss, align", "Lr, align", "Acceptance, align",
    ]  # fmt: skip
    assert "not finite: 1 values" in figure.caption
    assert "running mean" in figure.caption


def test_many_metrics_are_cut_and_named():
    figure = training_curves("align", [{"step": 1} | {f"m{i:02d}": i for i in range(17)}])
    assert len(_parse(figure.svg)) == 14
    assert figure.caption.endswith("Not drawn: m14, m15, m16.")


def test_labels_are_escaped():
    panel = _parse(training_curves('<a> & "b"', [{"step": 1, "loss": 1.0}]).svg)[0]
    assert panel.get("aria-label") == 'Loss, <a> & "b"'


def test_records_need_a_step():
    with pytest.raises(ValueError, match="pretrain has no 'step'"):
        training_curves("pretrain", [{"loss": 1.0}])


def test_drawn_clips_have_a_picture_of_their_own():
    records = [
        {
            "step": step,
            "loss": 1.0,
            "reward/accept": 0.3 + 0.01 * step,
            "reward/motion_quality": 0.5,
            "truth/accept": 0.3 - 0.01 * step,
            "look/colour": 0.2 + 0.1 * step,
            "look/motion": 0.0,
        }
        for step in range(1, 6)
    ]
    stage = "align-flow_grpo-round1"
    assert [p.get("aria-label") for p in _parse(training_curves(stage, records).svg)] == [
        "Loss, alignment with Flow-GRPO"
    ]
    figure = drift_curves(stage, records)
    panels = _parse(figure.svg)
    labels = [p.get("aria-label").partition(",")[0] for p in panels]
    assert labels == ["Accept of drawn clips", "Motion quality of drawn clips", "Look of the clips"]
    texts = [["".join(t.itertext()).strip() for t in p.iter(f"{SVG}text")] for p in panels]
    assert {"judge", "verifier"} <= set(texts[0])
    assert "verifier" not in texts[1]
    assert "colour" in texts[2]
    assert "motion" not in texts[2]  # it began at nothing: no shares of that
    assert drift_curves("pretrain", [{"step": 1, "loss": 1.0}]) is None
