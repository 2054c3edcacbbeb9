"""A tiny judge that answers, for tests of what it is shown and asked."""

import numpy as np
import pytest

from tests.language.reward_rows import write_tiny_model
from vidpref.rewards.vlm_judge import open_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder and parameters of a tiny Qwen2-VL."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    _, params = write_tiny_model(out, np.random.default_rng(0), 0.3)
    return out, params


@pytest.fixture(scope="module")
def reader(model):
    """How it is shown images and asked about them."""
    return open_model(str(model[0]), (64, 256), 512)[1]
