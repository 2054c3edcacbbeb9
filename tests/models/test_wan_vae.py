"""Wan's autoencoder against diffusers', forward and gradient, with small random weights."""

import inspect

import jax
import numpy as np
import pytest

from tests.models.wan_examples import DEEP_VAE, VAE
from vidpref.interop.table import to_params, to_tensors
from vidpref.interop.wan import vae_table
from vidpref.models.wan.vae import WanVAE

torch = pytest.importorskip("torch")
original = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl_wan")
parity = pytest.importorskip("tests.models.torch_parity")

TOLERANCE = 1e-4


def _pair(config: dict):
    model = original.AutoencoderKLWan(**config).eval()
    parity.randomize(model)
    module = WanVAE.from_config(config)
    return model, module, to_params(parity.state_dict(model), vae_table(module))


def _normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _channels_first(x: np.ndarray):
    return torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)


def _compare(model, module, params, method, x, run, prefixes):
    """Asserts equal outputs and gradients; `run` is the original's method, channels first."""
    shape = jax.eval_shape(lambda p, x: module.apply({"params": p}, x, method=method), params, x)
    probe = np.random.default_rng(1).normal(size=shape.shape).astype(np.float32)

    @jax.jit
    def ours(params, x):
        def loss(params, x):
            out = module.apply({"params": params}, x, method=method)
            return (out * probe).sum(), out

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    (_, out), (grads, grad_x) = ours(params, x)
    leaf = _channels_first(x)
    expected = run(leaf).movedim(1, -1)
    (expected * torch.tensor(probe)).sum().backward()

    forward = parity.assert_close({"out": out}, {"out": expected.detach().numpy()}, TOLERANCE)
    inputs = parity.assert_close({"x": grad_x}, {"x": leaf.grad.movedim(1, -1).numpy()}, TOLERANCE)
    named = [to_tensors(grads, vae_table(module)), parity.gradients(model)]
    for_method = [{k: v for k, v in grads.items() if k.startswith(prefixes)} for grads in named]
    weights = parity.assert_close(*for_method, TOLERANCE)
    print(f"{method} {x.shape}: {forward=:.1e} {inputs=:.1e} {weights=:.1e}")


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (VAE, (2, 9, 8, 12, 3)),
        (VAE, (1, 1, 4, 4, 3)),
        pytest.param(DEEP_VAE, (1, 5, 24, 16, 3), marks=pytest.mark.slow),
    ],
)
def test_moments_equal_diffusers(config, shape):
    model, module, params = _pair(config)
    _compare(
        model,
        module,
        params,
        "moments",
        _normal(*shape),
        lambda clips: model.encode(clips).latent_dist.parameters,
        ("encoder", "quant_conv"),
    )


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (VAE, (2, 3, 2, 3, 3)),
        (VAE, (1, 1, 1, 1, 3)),
        pytest.param(DEEP_VAE, (1, 2, 3, 2, 3), marks=pytest.mark.slow),
    ],
)
def test_decoded_clips_equal_diffusers(config, shape):
    model, module, params = _pair(config)
    mean, std = (
        torch.tensor(config[f"latents_{name}"])[:, None, None, None] for name in ("mean", "std")
    )
    _compare(
        model,
        module,
        params,
        "decode",
        _normal(*shape),
        lambda latents: model.decode(latents * std + mean).sample,
        ("decoder", "post_quant_conv"),
    )


def test_image_condition_equals_the_pipeline():
    diffusers = pytest.importorskip("diffusers")
    model, module, params = _pair(VAE)
    first = np.tanh(_normal(2, 8, 16, 3))
    pipeline = diffusers.WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=model,
        scheduler=diffusers.UniPCMultistepScheduler(),
    )
    # for several generators it encodes every image of the batch once more; one has one noise
    theirs = [
        pipeline.prepare_latents(
            _channels_first(first[i : i + 1]).detach(),
            1,
            num_channels_latents=3,
            height=8,
            width=16,
            num_frames=9,
            dtype=torch.float32,
        )[1]
        for i in range(2)
    ]
    ours = jax.jit(
        lambda params, first: module.apply({"params": params}, first, 3, method="image_latent")
    )(params, first)
    expected = torch.cat(theirs).detach().movedim(1, -1).numpy()
    assert parity.relative_error(ours, expected) < TOLERANCE


def test_defaults_are_those_of_diffusers():
    defaults = inspect.signature(original.AutoencoderKLWan.__init__).parameters
    ours = WanVAE()
    for name in set(WanVAE.__dataclass_fields__) & set(defaults):
        default = defaults[name].default
        assert getattr(ours, name) == (tuple(default) if isinstance(default, list) else default)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_residual": True}, "is_residual=True is not implemented"),
        ({"patch_size": 2}, "patch_size=2"),
        ({"attn_scales": [0.5]}, "attn_scales"),
    ],
)
def test_config_of_wan_2_2_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        WanVAE.from_config({**VAE, **change})


@pytest.mark.parametrize(
    ("change", "shape", "message"),
    [
        ({}, (1, 4, 8, 8, 3), r"1 \+ n \* 4 frames"),
        ({}, (1, 5, 8, 10, 3), "multiples of 4"),
        ({}, (1, 5, 8, 8, 1), "takes 3 channels"),
        ({"z_dim": 4}, (1, 1, 8, 8, 3), "must have z_dim=4 numbers"),
        ({"dim_mult": [1, 2, 4, 4]}, (1, 1, 8, 8, 3), "one entry fewer"),
    ],
)
def test_wrong_inputs_are_named(change, shape, message):
    module = WanVAE.from_config({**VAE, **change})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), np.zeros(shape, np.float32))


def test_one_frame_initialises_all_parameters():
    module = WanVAE.from_config(VAE)
    one, nine = (
        jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, t, 8, 8, 3), np.float32))
        for t in (1, 9)
    )
    assert jax.tree.structure(one) == jax.tree.structure(nine)
