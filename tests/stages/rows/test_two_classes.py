import logging

import numpy as np
import pytest

from vidpref.config.align import Align
from vidpref.config.fields import build
from vidpref.stages.rows.two_classes import check_classes


def warnings(good, bad, caplog, method="kto", **weights):
    rewards = np.array([1.0] * good + [0.0] * bad)
    config = build(Align(method=method, threshold=0.5, **weights))
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="absl"):
        check_classes(rewards, config)
    return [record.getMessage() for record in caplog.records]


def test_a_class_that_pulls_harder_is_warned_of(caplog):
    (message,) = warnings(2, 8, caplog)
    assert message.startswith("kto: 2 clips are desirable and 8 are not; config.align.desirable_w")
    assert "desirable_weight=4 would" in message
    (message,) = warnings(9, 3, caplog, undesirable_weight=1.5)
    assert "desirable_weight=0.5 would" in message
    assert not warnings(2, 8, caplog, desirable_weight=4.0)
    assert not warnings(6, 4, caplog)
    assert not warnings(3, 0, caplog)
    assert not warnings(2, 8, caplog, method="rwr")


def test_nothing_to_learn_towards_is_refused(caplog):
    with pytest.raises(ValueError, match=r"none of 4 clips has a reward above config.align.thresh"):
        warnings(0, 4, caplog)
    assert not warnings(0, 4, caplog, method="sft")
