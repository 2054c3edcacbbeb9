"""The warning of a weak leash: when it is given, and that it names what to change."""

import pytest

from vidpref.objectives.alignment import LEASHES, leash_warning

WEAK, FIRM = 6.0, 57.0  # measured: the first lowered acceptance by 20 points, the second did not


@pytest.mark.parametrize("objective", ["dpo", "mcdpo"])
def test_a_weak_leash_is_named_with_what_to_change(objective):
    said = leash_warning(objective, {"beta": 5000.0, "nll_weight": 0.0}, WEAK)
    for part in ("is 6, below 20", "Raise align.beta", "align.error_in", "align.nll_weight"):
        assert part in said


def test_it_is_silent_where_nothing_is_wrong():
    assert WEAK < LEASHES["ddpm"] < FIRM
    assert leash_warning("dpo", {"beta": 5e4}, FIRM) == ""
    assert leash_warning("dpo", {"beta": 5e3, "nll_weight": 2500.0}, WEAK) == ""
    assert leash_warning("kto", {"beta": 500.0}, WEAK) == ""


def test_a_flow_is_held_by_less():
    """Measured: 5.5 gained, 0.6 and 1.1 lowered acceptance."""
    assert leash_warning("dpo", {"beta": 500.0}, 5.5, "flow") == ""
    assert "is 1.1, below 3" in leash_warning("dpo", {"beta": 100.0}, 1.1, "flow")
