"""VADER's judge of latents: what it says of decoded clips, and a gradient through the decoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from tests.language.reward_rows import DIMENSIONS, tiny_reader
from tests.models.wan_examples import VAE
from vidpref.generation.autoencoder import Decoder
from vidpref.language.reward_scores import Normalisation
from vidpref.language.seen_pixels import SeenPixels
from vidpref.models.qwen_vl.reward import QwenVLReward, smallest_rows
from vidpref.models.wan.vae import WanVAE
from vidpref.stages.online.pixel_judge import PixelJudge

CLIP, FPS, PROMPTS = (5, 16, 16), 4.0, ["a ball", "a much longer prompt"]
SCALE = Normalisation({n: 0.1 for n in DIMENSIONS}, {n: 2.0 for n in DIMENSIONS})


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return tiny_reader(tmp_path_factory.mktemp("tokenizer"))


def judge_of(reader, decoder):
    module = QwenVLReward(reader.config, len(DIMENSIONS), len(DIMENSIONS))
    seen = SeenPixels(reader, CLIP, FPS)
    return PixelJudge(module, None, seen, DIMENSIONS, SCALE, decoder, None, 256)


def drawn(init, seed, scale):
    shapes, rng = jax.eval_shape(init, jax.random.key(0)), np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(scale * rng.normal(size=x.shape), jnp.float32), meta.unbox(shapes)
    )


def test_latents_are_judged_as_their_pixels_with_a_gradient(reader):
    decoder = Decoder(WanVAE.from_config(VAE))
    of_pixels, of_latents = judge_of(reader, None), judge_of(reader, decoder)
    config = reader.config

    def init(key):
        return of_pixels.module.init(key, smallest_rows(config, len(DIMENSIONS)))["params"]

    params = {"scores": drawn(init, 0, 0.1), "decoder": drawn(decoder.init, 1, 0.1)}
    rows = of_pixels.rows(PROMPTS)
    batch = {n: jnp.stack([rows[p][n] for p in PROMPTS]) for n in rows[PROMPTS[0]]}
    for name, shape in of_pixels.row_shapes.items():  # but for the number of tokens
        assert batch[name].dtype == shape.dtype, name
        assert batch[name].shape[2:] == shape.shape[1:], name
    latents = np.random.default_rng(2).normal(size=(2, 2, 4, 4, VAE["z_dim"])).astype(np.float32)
    pixels = decoder.sample(params["decoder"], jnp.zeros((2, 2), "uint32"), {"latent": latents})
    assert pixels.shape == (2, *CLIP, 3)
    tau = jnp.zeros(2)

    def total(latents):
        return of_latents.reward(params, latents, tau, batch).sum()

    scores = of_latents.reward(params, jnp.asarray(latents), tau, batch)
    np.testing.assert_allclose(
        scores, of_pixels.reward(params, pixels, tau, batch), rtol=1e-5, atol=1e-6
    )
    slope = jax.grad(total)(jnp.asarray(latents))
    _, pull = jax.vjp(
        lambda x: decoder.sample(params["decoder"], jnp.zeros((2, 2), "uint32"), {"latent": x}),
        jnp.asarray(latents),
    )
    assert decoder.clip_shape((2, 4, 4, VAE["z_dim"])) == (*CLIP, 3)
    # the rest of a longer clip is neither decoded nor learnt from
    longer = jnp.concatenate([latents, latents], axis=1)
    first = dataclasses.replace(of_latents, decoded=2)
    np.testing.assert_array_equal(first.reward(params, longer, tau, batch), scores)
    slopes = jax.grad(lambda x: first.reward(params, x, tau, batch).sum())(longer)
    np.testing.assert_allclose(slopes[:, :2], slope, rtol=1e-4, atol=1e-8)
    assert not np.abs(slopes[:, 2:]).any()
    by_pixels = jax.grad(lambda x: of_pixels.reward(params, x, tau, batch).sum())(pixels)
    assert np.abs(slope).max() > 1e-6
    np.testing.assert_allclose(slope, pull(by_pixels)[0], rtol=1e-3, atol=1e-7)


def test_overall_is_the_mean_or_the_sum_and_what_is_not_scored_is_refused(reader):
    judge = judge_of(reader, None)
    third = pytest.approx(1 / 3)
    assert judge.weights({"overall": 1.0}, "mean") == dict.fromkeys(DIMENSIONS, third)
    assert judge.weights({"overall": 1.0}, "sum") == dict.fromkeys(DIMENSIONS, 1.0)
    one = judge.weights({"motion_quality": 0.5}, "mean")
    assert one == {"visual_quality": 0.0, "motion_quality": 0.5, "text_alignment": 0.0}
    with pytest.raises(ValueError, match=r"align\.reward\.accept: the judge scores visual_quality"):
        judge.weights({"accept": 1.0}, "mean")


def test_a_prompt_that_cannot_be_read_is_named(reader):
    with pytest.raises(ValueError, match="the judge cannot read the prompt '  ': the prompt is"):
        judge_of(reader, None).rows(["a ball", "  "])
