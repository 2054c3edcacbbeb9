"""Real clips beside the rows, and clips under another row's condition, against NumPy float64."""

import jax
import numpy as np
import pytest
import scipy.special
from tiny_alignment import (
    CLIP,
    POLICY,
    REFERENCE,
    B,
    Network,
    draw_batch,
    errors_and_slopes,
    make,
    run,
    words_of,
)


def part(call, columns):
    """The call's clips in these columns of its rows, as a call of its own."""
    rows = call[0].shape[0] // B

    def take(x):
        x = np.asarray(x).reshape(B, rows, *x.shape[1:])[:, columns]
        return x.reshape(-1, *x.shape[2:])

    return jax.tree.map(take, call)


def test_real_clips_go_through_the_network_in_the_same_call():
    batch, real = draw_batch(2), draw_batch(1, seed=9)
    beta, real_weight = 4.0, 0.3
    loss, metrics, gradient, (of_policy, of_reference) = run(
        "dpo",
        {"beta": beta, "real_weight": real_weight},
        batch | {"real": real},
        {"reference": REFERENCE},
    )
    assert of_policy[0].shape == (3 * B, *CLIP)
    assert of_reference[0].shape == (2 * B, *CLIP)
    pairs, alone = part(of_policy, [0, 1]), part(of_policy, [2])
    jax.tree.map(np.testing.assert_array_equal, pairs, of_reference)

    # its own text, time and noise
    np.testing.assert_array_equal(alone[2].text, real["text"])
    np.testing.assert_array_equal(alone[2].text_mask, real["text_mask"])
    assert not np.isin(alone[1], pairs[1]).any()
    np.testing.assert_array_equal(pairs[2].text, np.repeat(batch["text"], 2, axis=0))

    policy, slopes = errors_and_slopes(pairs, POLICY, batch)
    reference, _ = errors_and_slopes(pairs, REFERENCE, batch)
    of_real, real_slopes = errors_and_slopes(alone, POLICY, real)
    d = policy - reference
    logit = beta / 2 * (d[:, 1] - d[:, 0])
    expected = -scipy.special.log_expit(logit).mean() + real_weight * of_real.mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["error_real"], of_real.mean(), rtol=1e-5)
    pull = beta / 2 * scipy.special.expit(-logit)
    for name in POLICY:
        slope = (pull * (slopes[name][:, 0] - slopes[name][:, 1])).mean()
        slope += real_weight * real_slopes[name].mean()
        np.testing.assert_allclose(gradient[name], slope, rtol=1e-3, atol=1e-6)


def test_without_weight_real_clips_are_left_alone():
    batch = draw_batch(2) | {"real": draw_batch(1, seed=9)}
    *_, calls = run("dpo", {"beta": 4.0, "real_weight": 0.0}, batch, {"reference": REFERENCE})
    assert [call[0].shape[0] for call in calls] == [2 * B, 2 * B]


def test_mismatched_reference_point_swaps_the_conditions_alone():
    batch = draw_batch(1)
    batch["reward"] = np.float32([[1], [0], [1], [0]])
    worse = {"scale": np.float32(-0.2), "text": np.float32(0.9)}
    loss, metrics, gradient, calls = run(
        "kto", {"beta": 2.0, "reference_point": "mismatched"}, batch, {"reference": worse}
    )
    matched, _, wrong, again = calls
    jax.tree.map(np.testing.assert_array_equal, wrong, again)
    np.testing.assert_array_equal(wrong[0], matched[0])
    np.testing.assert_array_equal(wrong[1], matched[1])
    np.testing.assert_array_equal(words_of(wrong[2]), np.roll(words_of(matched[2]), 1))

    swapped = errors_and_slopes(wrong, worse, batch)[0] - errors_and_slopes(wrong, POLICY, batch)[0]
    point = swapped.mean()
    assert point > 0.01
    np.testing.assert_allclose(metrics["reference_point"], point, rtol=1e-4)
    policy, slopes = errors_and_slopes(matched, POLICY, batch)
    g = (errors_and_slopes(matched, worse, batch)[0] - policy)[:, 0]
    sign = np.array([1, -1, 1, -1])
    value = scipy.special.expit(-sign * 2.0 * (g - point))
    np.testing.assert_allclose(loss, value.mean(), rtol=1e-5)
    for name in POLICY:
        slope = (value * (1 - value) * sign * 2.0 * slopes[name][:, 0]).mean()
        np.testing.assert_allclose(gradient[name], slope, rtol=1e-3, atol=1e-6)


def test_one_row_has_no_other_condition():
    loss_fn = make(Network(), "kto", {"beta": 1.0, "reference_point": "mismatched"})
    one = jax.tree.map(lambda x: x[:1], draw_batch(1))
    with pytest.raises(ValueError, match="a microbatch has one row"):
        loss_fn(POLICY, {"reference": REFERENCE}, one, jax.random.key(0))
