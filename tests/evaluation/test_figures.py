"""Figures are well-formed SVG that draws the numbers and takes the colours of the page."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_examples import RATES, clip_table

from vidpref.evaluation.figures import category_bars, rounds_curve
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
