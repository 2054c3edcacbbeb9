"""Whether the clips of a batch, or the tokens of each, divide over the mesh axis context."""

import jax
import numpy as np
import pytest

from vidpref.config.by_name import named_config
from vidpref.config.overrides import apply_overrides
from vidpref.stages.division import check_division
from vidpref.stages.planning import plan_section, section_training
from vidpref.training.sharding import make_mesh


def training(spec, context, batch_size, *overrides):
    config = named_config(spec)
    config = apply_overrides(config, [f"align.train.batch_size={batch_size}", *overrides])
    mesh = make_mesh({"context": context}, jax.devices()[:context])
    return section_training(config, "align", mesh)


def test_clips_or_tokens_are_divided(caplog):
    check_division(training("flow_dpo:mini", 2, 1))  # the two clips of a pair
    check_division(training("flow_dpo:mini", 3, 1))  # 32 tokens, 4 heads
    assert not caplog.records


def test_fewer_heads_than_devices_are_refused():
    with pytest.raises(ValueError, match=r"config.mesh.context=8 .* only 4 attention heads"):
        check_division(training("flow_dpo:mini", 8, 1))


def test_a_network_that_cannot_divide_tokens_says_that_work_is_repeated(caplog):
    check_division(training("dpo_aif:mini", 4, 1))
    (record,) = caplog.records
    message = record.getMessage()
    assert "mesh.context=4 repeats work: a step's 2 clips" in message
    assert "UNet3D cannot divide the tokens" in message


def filled(tree):
    """Arrays of these shapes, where they lie, the same on every mesh."""
    rng = np.random.default_rng(0)

    def fill(leaf):
        if leaf.dtype == bool:
            values = np.ones(leaf.shape, bool)
        elif np.issubdtype(leaf.dtype, np.integer):
            values = rng.integers(256, size=leaf.shape).astype(leaf.dtype)
        else:
            values = (0.2 * rng.normal(size=leaf.shape)).astype(leaf.dtype)
        return jax.device_put(values, leaf.sharding)

    return jax.tree.map(fill, tree)


def one_step(context):
    overrides = ("model.dit.layers=1", "align.train.batch_size=1", "compute_dtype=float32")
    config = apply_overrides(named_config("flow_dpo:mini"), overrides)
    mesh = make_mesh({"context": context}, jax.devices()[:context])
    planned = plan_section(config, "align", mesh)
    plan = planned.training.plan
    state = plan.create(0, filled(plan.state.params))
    state, metrics = plan.step(state, filled(planned.frozen), filled(planned.batch))
    return jax.device_get((metrics, state.params))


def test_a_step_on_divided_tokens_equals_one_device():
    """A pair of clips on three devices: 11 tokens each of 32 filled up to 33."""
    (metrics, params), (expected, expected_params) = one_step(3), one_step(1)
    assert abs(expected["loss"] - np.log(2)) > 1e-3  # the policy is not the reference
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for mine, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected_params), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
