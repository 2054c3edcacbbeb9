"""DiffusionNFT and AWM against their formulas on outputs, in float64 with autograd."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from objective_examples import B, errors, labels

from vidpref.diffusion.denoising import Denoised
from vidpref.objectives.alignment import Errors, awm, diffusion_nft

K, CLIP = 2, (2, 3, 3, 1)
RNG = np.random.default_rng(0)
TARGET, OUTPUT, OLD = RNG.normal(size=(3, B * K, *CLIP)).astype(np.float32)
ADVANTAGE = RNG.uniform(-1, 1, (B, K)).astype(np.float32)
FACTOR = RNG.uniform(0.5, 2.0, B * K).astype(np.float32)


def denoised(output):
    return Denoised(jnp.asarray(output), jnp.asarray(TARGET), jnp.asarray(FACTOR), (K,), "mean")


def measured(output, old) -> Errors:
    mine, other = denoised(output), denoised(old)
    (policy,), (reference,), (distance,) = mine.errors(), other.errors(), mine.distances(other)
    return Errors(policy, reference, jnp.linspace(0.1, 1.0, B), distance=distance)


def ours(objective, output, old, **hyper):
    def loss(output):
        return objective(measured(output, old), labels(ADVANTAGE), **hyper)[0]

    return jax.value_and_grad(loss)(jnp.asarray(output))


def by_outputs(output, beta):
    """The paper's loss, of what each policy would put out."""
    new, old, target = (torch.tensor(x, dtype=torch.float64) for x in (output, OLD, TARGET))
    new.requires_grad_()
    share = (1 + torch.tensor(ADVANTAGE.reshape(-1), dtype=torch.float64)) / 2
    factor = torch.tensor(FACTOR, dtype=torch.float64)

    def normalised(made):
        error = ((made - target) ** 2).mean(dim=(1, 2, 3, 4)) * factor
        return error / error.detach().sqrt()

    good = normalised((1 - beta) * old + beta * new)
    bad = normalised((1 + beta) * old - beta * new)
    loss = ((share * good + (1 - share) * bad) / beta).mean()
    loss.backward()
    return loss.item(), new.grad.numpy()


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0, 2.0])
def test_nft_needs_no_outputs_but_their_errors_and_distance(beta):
    loss, slope = ours(diffusion_nft, OUTPUT, OLD, beta=beta)
    wanted, of_outputs = by_outputs(OUTPUT, beta)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(slope, of_outputs, rtol=1e-4, atol=1e-6)


def test_nft_weighs_errors_by_advantages_where_the_policies_are_the_same():
    """Then it pulls as AWM does, but for the root that each error is divided by."""
    _, slope = ours(diffusion_nft, OLD, OLD, beta=0.7)
    root = np.repeat(np.sqrt(np.asarray(denoised(OLD).errors()[0])).reshape(-1), np.prod(CLIP))
    _, weighted = ours(awm, OLD, OLD, clip=0.1)
    expected = np.asarray(weighted).reshape(-1) / root
    np.testing.assert_allclose(np.asarray(slope).reshape(-1), expected, rtol=1e-4, atol=1e-7)


def test_nft_without_an_advantage_goes_back_to_the_old_policy():
    def loss(output):
        flat = labels(np.zeros((B, K), np.float32))
        return diffusion_nft(measured(output, OLD), flat, beta=1.0)[0]

    at_old = jax.grad(loss)(jnp.asarray(OLD))
    np.testing.assert_allclose(at_old, 0.0, atol=1e-7)
    moved = OLD + 0.01 * (OUTPUT - OLD)
    step = np.asarray(moved - 0.001 * jax.grad(loss)(jnp.asarray(moved)))
    assert np.square(step - OLD).sum() < np.square(moved - OLD).sum()


def test_nft_is_held_to_the_pretrained_policy_by_its_output():
    """Whatever space the errors are measured in: `kl` times the squared distance of the outputs."""
    first = np.random.default_rng(2).normal(size=OLD.shape).astype(np.float32)

    def loss(output, **hyper):
        mine, old, far = denoised(output), denoised(OLD), denoised(first)
        (moved,), (also,) = mine.output_distances(far), old.output_distances(far)
        given = measured(output, OLD).replace(moved=moved, reference_moved=also)
        return diffusion_nft(given, labels(ADVANTAGE), beta=1.0, **hyper)

    pull = jax.value_and_grad(loss, has_aux=True)
    (free, metrics), slope = pull(jnp.asarray(OUTPUT))
    (held, _), held_slope = pull(jnp.asarray(OUTPUT), kl=0.3)
    wide, far = OUTPUT.astype(np.float64), first.astype(np.float64)
    divergence = ((wide - far) ** 2).mean()
    np.testing.assert_allclose(metrics["divergence"], divergence, rtol=1e-5)
    old = ((OLD.astype(np.float64) - far) ** 2).mean()
    np.testing.assert_allclose(metrics["divergence_old"], old, rtol=1e-5)
    np.testing.assert_allclose(held - free, 0.3 * divergence, rtol=1e-4)
    expected = 0.3 * 2 * (wide - far) / wide.size
    np.testing.assert_allclose(held_slope - slope, expected, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match=r"kl=0\.3: a divergence needs the outputs"):
        diffusion_nft(measured(OUTPUT, OLD), labels(ADVANTAGE), beta=1.0, kl=0.3)


def test_awm_is_a_weighted_error_where_the_policies_are_the_same():
    loss, slope = ours(awm, OLD, OLD, clip=1e-4)
    np.testing.assert_allclose(loss, -ADVANTAGE.mean(), rtol=1e-5)
    per_clip = np.repeat(ADVANTAGE.reshape(-1) * FACTOR / (B * K), np.prod(CLIP))
    expected = per_clip * 2 / np.prod(CLIP) * (OLD - TARGET).reshape(-1)
    np.testing.assert_allclose(np.asarray(slope).reshape(-1), expected, rtol=1e-4, atol=1e-8)


def test_awm_stops_where_a_ratio_has_gone_its_way():
    old = np.float32([[0.5, 0.5], [0.5, 0.5]])
    policy = old + np.float32([[-0.3, 0.3], [-0.3, 0.3]])  # ratios of 1.35 and 0.74
    given = labels(np.float32([[1.0, 1.0], [-1.0, -1.0]]))

    def loss(policy):
        return awm(errors(policy, old), given, clip=0.2)

    slope, metrics = jax.grad(loss, has_aux=True)(jnp.asarray(policy))
    ratio = np.exp(old - policy)
    stopped = np.bool_([[True, False], [False, True]])
    expected = np.where(stopped, 0.0, ratio * np.float32([[1.0], [-1.0]]) / 4)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-8)
    assert metrics["clip_fraction"] == 0.5
    np.testing.assert_allclose(metrics["ratio"], ratio.mean(), rtol=1e-5)
