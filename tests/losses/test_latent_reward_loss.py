"""The loss against a closed form, with a network of two parameters; then a small transformer."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from tiny_alignment import one_step

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.losses.latent_reward import make_latent_reward_loss
from vidpref.models.condition import Condition
from vidpref.models.dit.network import DiT
from vidpref.models.latent_reward import LatentReward
from vidpref.objectives.preference import Preference
from vidpref.typing import Array

A, B, TIE, INVALID = Preference
ROWS, CLIP = 4, (2, 4, 4, 3)
DIMS = ("brightness", "contrast")
PARAMS = {"brightness": jnp.float32(0.8), "contrast": jnp.float32(-0.5)}
LABELS = np.array([[A, B], [B, TIE], [INVALID, A], [B, B]], np.int32)


@flax.struct.dataclass
class Words:
    text: Array

    def repeat(self, k):
        return jax.tree.map(lambda x: jnp.repeat(x, k, axis=0), self)


def make_condition(batch):
    return Words(batch["text"])


class Network:
    """`brightness mean(x) text` and `contrast (1 + tau) mean(x^2)`; remembers its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, params, x, tau, condition):
        self.calls.append((x, tau, condition.text))
        pixels = x.reshape(len(x), -1)
        first = params["brightness"] * pixels.mean(axis=1) * condition.text
        second = params["contrast"] * (1 + tau) * (pixels**2).mean(axis=1)
        return jnp.stack([first, second], axis=1)


def draw_batch(**extra):
    rng = np.random.default_rng(0)
    return {
        "clips": rng.integers(0, 256, (ROWS, 2, *CLIP), dtype=np.uint8),
        "text": np.linspace(1.0, 2.0, ROWS, dtype=np.float32),
        "preference": LABELS,
        **extra,
    }


def run(batch, process=None, **settings):
    network = Network()
    process = process or RectifiedFlow()
    loss_fn = make_latent_reward_loss(
        network, process, dims=DIMS, make_condition=make_condition, **settings
    )
    (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
        PARAMS, {}, batch, jax.random.key(1)
    )
    return loss, metrics, gradient


def calls_of(batch, process, **settings):
    network = Network()
    loss_fn = make_latent_reward_loss(
        network, process, dims=DIMS, make_condition=make_condition, **settings
    )
    loss_fn(PARAMS, {}, batch, jax.random.key(1))
    (call,) = network.calls
    return call


@pytest.mark.parametrize("settings", [{}, {"noise_aware": False}], ids=str)
def test_loss_and_gradient_equal_the_closed_form(settings):
    weight = np.float32([1, 1, 1, 0])
    batch = draw_batch(weight=weight)
    loss, metrics, gradient = run(batch, **settings)

    x, tau, text = (np.asarray(v, np.float64) for v in calls_of(batch, RectifiedFlow(), **settings))
    pixels = x.reshape(2 * ROWS, -1)
    slopes = np.stack([pixels.mean(axis=1) * text, (1 + tau) * (pixels**2).mean(axis=1)], axis=1)
    slopes = slopes.reshape(ROWS, 2, 2)  # a score is its slope times its parameter
    sign = np.select([LABELS == A, LABELS == B], [1.0, -1.0], 0.0) * weight[:, None]
    margin = sign * (slopes[:, 0] - slopes[:, 1]) * [[0.8, -0.5]]
    counted = sign != 0
    assert counted.sum() == 4
    expected = -scipy.special.log_expit(margin)[counted].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    pull = -scipy.special.expit(-margin) * sign * (slopes[:, 0] - slopes[:, 1])
    for i, name in enumerate(DIMS):
        np.testing.assert_allclose(gradient[name], pull[:, i].sum() / 4, rtol=1e-4)
        right = (margin > 0)[:, i][counted[:, i]].mean()
        np.testing.assert_allclose(metrics[f"accuracy/{name}"], right)
    accuracies = [metrics[f"accuracy/{name}"] for name in DIMS]
    np.testing.assert_allclose(metrics["accuracy"], np.mean(accuracies))


def test_ties_and_padding_rows_are_divided_out_once_under_accumulation():
    """60 % ties and 3 padding rows of 20, in 4 microbatches, against one batch and float64."""
    rows, rng = 20, np.random.default_rng(1)
    batch = {
        "clips": rng.integers(0, 256, (rows, 2, *CLIP), dtype=np.uint8),
        "text": np.linspace(1.0, 2.0, rows, dtype=np.float32),
        "preference": rng.choice([A, B, TIE], (rows, 2), p=[0.2, 0.2, 0.6]).astype(np.int32),
        "weight": np.float32([0, 1, 1, 1] * 3 + [1] * 8),
    }
    loss_fn = make_latent_reward_loss(
        Network(), RectifiedFlow(), dims=DIMS, make_condition=make_condition, noise_aware=False
    )
    one, whole = one_step(PARAMS, {}, loss_fn, batch, 1)
    four, parts = one_step(PARAMS, {}, loss_fn, batch, 4)
    for name in one.keys() - {"accuracy"}:
        np.testing.assert_allclose(four[name], one[name], rtol=5e-6, atol=1e-6, err_msg=name)
    for name in PARAMS:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-6)

    pixels = (batch["clips"] / 127.5 - 1).reshape(2 * rows, -1)
    slopes = [pixels.mean(axis=1) * batch["text"].repeat(2), (pixels**2).mean(axis=1)]
    scores = (np.stack(slopes, axis=1) * [0.8, -0.5]).reshape(rows, 2, 2)
    sign = np.select([batch["preference"] == A, batch["preference"] == B], [1.0, -1.0], 0.0)
    sign *= batch["weight"][:, None]
    losses = np.log1p(np.exp(-sign * (scores[:, 0] - scores[:, 1])))
    np.testing.assert_allclose(four["loss"], losses[sign != 0].mean(), rtol=1e-5)
    wrong = np.mean([losses[i::4][sign[i::4] != 0].mean() for i in range(4)])
    assert abs(wrong - four["loss"]) > 2e-4  # as a mean over microbatches it would be


@pytest.mark.parametrize("process", [RectifiedFlow(), DDPM("cosine")], ids=["flow", "ddpm"])
def test_both_clips_of_a_pair_are_corrupted_alike_in_one_call(process):
    batch = draw_batch()
    x, tau, text = calls_of(batch, process)
    tau = np.reshape(tau, (ROWS, 2))
    np.testing.assert_array_equal(tau[:, 0], tau[:, 1])
    assert len(np.unique(tau[:, 0])) == ROWS
    np.testing.assert_array_equal(text, np.repeat(batch["text"], 2))
    alpha, sigma = (np.reshape(w, (ROWS, 1, 1, 1, 1, 1)) for w in process.alpha_sigma(tau[:, 0]))
    noise = np.reshape(x, (ROWS, 2, *CLIP)) - alpha * (batch["clips"] / 127.5 - 1)
    np.testing.assert_allclose(noise[:, 0], noise[:, 1], atol=1e-5)
    assert 0.8 < (noise / sigma).std() < 1.2


def test_without_noise_the_clips_are_clean_and_the_time_is_zero():
    batch = draw_batch()
    x, tau, _ = calls_of(batch, RectifiedFlow(), noise_aware=False)
    np.testing.assert_array_equal(tau, 0.0)
    clips = (batch["clips"] / 127.5 - 1).reshape(2 * ROWS, *CLIP)
    np.testing.assert_allclose(x, clips, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": np.zeros((ROWS, 3, *CLIP), np.uint8)}, "a pair has 2 clips, the batch has 3"),
        ({"preference": LABELS[:, :1]}, r"preference has shape \(4, 1\).*brightness, contrast"),
    ],
)
def test_batches_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        run(draw_batch(**change))


@pytest.mark.parametrize("dims", [(), ("motion", "motion")])
def test_dimensions_need_different_names(dims):
    with pytest.raises(ValueError, match="must be one or more different names"):
        make_latent_reward_loss(
            Network(), RectifiedFlow(), dims=dims, make_condition=make_condition
        )


def separable_pairs(rng, b):
    """Clips of a random grey and contrast; label 0 prefers the brighter, 1 the flatter clip."""
    grey = rng.uniform(-0.4, 0.4, (b, 2))
    spread = rng.uniform(0.0, 0.5, (b, 2))
    checks = np.indices((4, 8, 8)).sum(axis=0)[..., None] // 2 % 2 * 2 - 1
    clips = grey[..., None, None, None, None] + spread[..., None, None, None, None] * checks
    labels = np.stack([grey[:, 0] < grey[:, 1], spread[:, 0] > spread[:, 1]], axis=1)
    return {
        "clips": np.rint((np.clip(clips, -1, 1) + 1) * 127.5).astype(np.uint8),
        "text": np.ones((b, 2, 4), np.float32),
        "text_mask": np.ones((b, 2), bool),
        "preference": labels.astype(np.int32),
    }


def test_a_small_transformer_learns_separable_pairs():
    generator = DiT(
        1, 4, patch=(4, 4, 4), width=24, layers=1, head_dim=8, cond_dim=16, first_frame=False
    )
    model = LatentReward(generator, dims=2)
    loss_fn = make_latent_reward_loss(
        lambda params, *inputs: model.apply({"params": params}, *inputs),
        RectifiedFlow(),
        dims=DIMS,
        make_condition=lambda batch: Condition(batch["text"], batch["text_mask"]),
    )
    rng = np.random.default_rng(0)
    held_out = separable_pairs(rng, 256)
    condition = Condition(held_out["text"][:1], held_out["text_mask"][:1])
    start = jnp.zeros((1, 4, 8, 8, 1)), jnp.zeros(1), condition
    params = nn.unbox(jax.jit(model.init)(jax.random.key(0), *start))["params"]
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state, batch, rng):
        (loss, _), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params, {}, batch, rng)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, loss

    evaluate = jax.jit(loss_fn)
    loss, metrics = evaluate(params, {}, held_out, jax.random.key(7))
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)  # the projection starts at zero
    np.testing.assert_array_equal(metrics["accuracy"], 0.5)
    state = optimizer.init(params)
    for i in range(60):
        params, state, _ = step(params, state, separable_pairs(rng, 32), jax.random.key(i))
    loss, metrics = evaluate(params, {}, held_out, jax.random.key(7))
    assert loss < 0.5
    assert metrics["accuracy/brightness"] > 0.8
    assert metrics["accuracy/contrast"] > 0.8
