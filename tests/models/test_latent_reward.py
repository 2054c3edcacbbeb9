import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.conftest import build, compiled, init, make_inputs, random_params, randomize
from vidpref.models.latent_reward import LatentReward, from_generator

LAYERS = 2
DIMS = 3


@functools.cache
def make_reward(**fields):
    return LatentReward(build("dit", layers=3, **fields).clone(layers=LAYERS), DIMS)


@functools.cache
def reward_params():
    shapes = jax.eval_shape(make_reward().init, jax.random.key(0), *make_inputs())["params"]
    return randomize(shapes, seed=3)


class Tokens(nn.Module):
    """A generator's tokens after its last block."""

    generator: nn.Module

    @nn.compact
    def __call__(self, *inputs):
        return self.generator.trunk(*inputs)[0]


def test_from_generator_gives_the_generators_own_activations(inputs):
    generator = build("dit", layers=3)
    params = random_params(generator)
    # with its branches shut the third block passes on what the second gave, bit for bit
    shut = lambda leaf: leaf.at[LAYERS].set(0.0)  # noqa: E731
    blocks = {**params["blocks"], "modulation": jax.tree.map(shut, params["blocks"]["modulation"])}
    blocks["cross"] = {**blocks["cross"], "out": jax.tree.map(shut, blocks["cross"]["out"])}
    trunk = {part: {**params, "blocks": blocks}[part] for part in ("condition", "stem", "blocks")}
    expected = compiled(Tokens(generator))(trunk, *inputs)

    taken = from_generator(params, LAYERS)
    got = compiled(Tokens(generator.clone(layers=LAYERS)))(taken, *inputs)
    np.testing.assert_array_equal(got, expected)
    assert (
        jnp.abs(
            got - compiled(Tokens(generator))({**trunk, "blocks": params["blocks"]}, *inputs)
        ).max()
        > 1e-3
    )


def test_score_is_a_projection_of_the_normalised_mean_token(inputs):
    params = {**reward_params(), **from_generator(random_params(build("dit", layers=3)), LAYERS)}
    trunk = {part: params[part] for part in ("condition", "stem", "blocks")}
    tokens = compiled(Tokens(make_reward().backbone))(trunk, *inputs)
    pooled = np.asarray(tokens, np.float64).mean(axis=1)
    pooled -= pooled.mean(axis=-1, keepdims=True)
    pooled /= np.sqrt((pooled**2).mean(axis=-1, keepdims=True) + 1e-6)
    pooled = pooled * params["norm"]["scale"][None] + params["norm"]["bias"][None]
    got = compiled(make_reward())(params, *inputs)
    np.testing.assert_allclose(got, pooled @ params["score"]["kernel"], rtol=1e-4, atol=1e-4)


def test_fresh_parameters_are_the_generators_and_a_score_of_zero(inputs):
    generator = build("dit", layers=3)
    boxed = jax.eval_shape(make_reward().init, jax.random.key(0), *inputs)["params"]
    assert set(boxed) == {"condition", "stem", "blocks", "norm", "score"}
    whole = jax.eval_shape(generator.init, jax.random.key(0), *inputs)["params"]
    taken = jax.eval_shape(lambda p: from_generator(p, LAYERS), whole)
    # shapes and logical names are those that a reward of its own would have
    assert {part: boxed[part] for part in taken} == taken
    assert (compiled(make_reward())(init(make_reward(), *inputs), *inputs) == 0).all()


def test_score_depends_on_clip_time_and_text_of_its_own_row(inputs):
    x, tau, condition = inputs
    run = compiled(make_reward())
    out = run(reward_params(), *inputs)
    assert out.shape == (2, DIMS)
    changes = [
        (x.at[1].add(jnp.linspace(-1, 1, x.shape[-2])[None, None, :, None]), tau, condition),
        (x, tau.at[1].add(0.2), condition),
        (x, tau, condition.replace(text=condition.text.at[1, 0].multiply(-1.0))),
    ]
    for changed in changes:
        difference = jnp.abs(run(reward_params(), *changed) - out).max(axis=1)
        assert difference[0] < 1e-6
        assert difference[1] > 1e-4


def test_gradient_by_the_clip_equals_finite_differences(inputs):
    x, tau, condition = inputs
    run = compiled(make_reward())
    total = lambda x: run(reward_params(), x, tau, condition).sum()  # noqa: E731
    direction = jax.random.normal(jax.random.key(9), x.shape)
    direction /= jnp.linalg.norm(direction.ravel())
    slope = (jax.grad(total)(x) * direction).sum()
    step = 0.05
    difference = (total(x + step * direction) - total(x - step * direction)) / (2 * step)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, difference, rtol=0.02)


def test_scores_are_float32_in_bfloat16_too(inputs):
    exact = compiled(make_reward())(reward_params(), *inputs)
    half = compiled(make_reward(dtype="bfloat16"))(reward_params(), *inputs)
    assert half.dtype == jnp.float32
    error = jnp.sqrt(jnp.mean((half - exact) ** 2) / jnp.mean(exact**2))
    assert 1e-5 < error < 0.05


def test_what_cannot_be_taken_is_named():
    params = random_params(build("dit", layers=3))
    for layers in (0, 4):
        with pytest.raises(ValueError, match=f"layers={layers}: the generator has 3 blocks"):
            from_generator(params, layers)
    with pytest.raises(ValueError, match="has no parameters stem, blocks"):
        from_generator({"condition": {}, "down_0": {}}, 1)
