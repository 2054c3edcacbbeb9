"""Figures are well-formed SVG that draws the numbers and takes the colours of the page."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_examples import RATES, clip_table

from vidpref.evaluation.figures import category_bars, rounds_curve, training_curves
from vidpref.evaluation.statistics import evaluation_json

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def evaluation():
    return evaluation_json(clip_table(RATES, prompts=20), best_of=None)


def _parse(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(f"<page>{svg}</page>"))


def _texts(element: ET.Element) -> list[str]:
    return ["".join(t.itertext()).strip() for t in element.iter(f"{SVG}text")]


def test_text_and_axes_take_the_colour_of_the_page(evaluation):
    for figure in (category_bars(evaluation), rounds_curve(evaluation)):
        assert "currentColor" in figure.svg
        assert "#010203" not in figure.svg
        assert "#000000" not in figure.svg
        assert "fill: #ffffff" not in figure.svg


def test_ids_are_unique_and_references_resolve(evaluation):
    figures = [category_bars(evaluation), rounds_curve(evaluation)]
    ids = re.findall(r'\bid="([^"]+)"', "".join(f.svg for f in figures))
    assert len(ids) == len(set(ids)) > 20
    used = re.findall(r'(?:href="|url\()#([^")]+)', "".join(f.svg for f in figures))
    assert used
    assert set(used) <= set(ids)


def test_bars_have_the_length_of_the_rates(evaluation):
    test, train = _parse(category_bars(evaluation).svg)
    assert test.get("aria-label") == "Acceptance by category, Held-out prompts"
    assert {"Held-out prompts", "falling down", "DPO, round 2", "100%"} <= set(_texts(test))
    assert "Training prompts" in _texts(train)
    bars = []
    for group in test.iter(f"{SVG}g"):
        path = group.find(f"{SVG}path")
        if path is None or "hatch" in str(path.attrib) or "patch" not in group.get("id", ""):
            continue
        xs = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path.get("d"))]
        style = path.get("style", "")
        if "#8c8c8c" in style and len(xs) >= 4:
            bars.append(max(xs) - min(xs))
    categories = evaluation["policies"]["pretrained"]["test"]["categories"]
    rates = np.array([categories[c]["accept"] for c in sorted(categories)])
    lengths = np.array(bars[: len(rates)])
    np.testing.assert_allclose(lengths / lengths.sum(), rates / rates.sum(), atol=1e-3)


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
