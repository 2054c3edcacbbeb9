"""Video autoencoders by tiles against diffusers' `enable_tiling()`, with small random weights."""

import functools

import jax
import numpy as np
import pytest

from tests.models import wan_examples
from vidpref.interop import cogvideox, wan
from vidpref.interop.table import to_params
from vidpref.models.cogvideox.vae import CogVideoXVAE
from vidpref.models.tiling import Cut
from vidpref.models.wan.vae import WanVAE

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
parity = pytest.importorskip("tests.models.torch_parity")
cogvideox_examples = pytest.importorskip("tests.models.cogvideox_examples")

TOLERANCE = 1e-4
# (pixels of a frame, of a tile, from tile to tile)
REMAINDERS = (28, 20), (16, 12), (12, 8)  # the last tiles are one latent high and wide
ROWS = (20, 12), (16, 12), (12, 12)
MUCH_OVERLAP = (20, 12), (16, 12), (4, 12)  # five rows of four heights


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def compiled(module, params, method, x):
    # runs once: compiling is nearly all of the time
    options = {"xla_backend_optimization_level": 0}
    run = jax.jit(functools.partial(module.apply, method=method), compiler_options=options)
    return run({"params": params}, x)


def compare(model, module, params, method, x, run):
    """Asserts equal outputs, and that they are not those of whole frames."""
    leaf = torch.tensor(np.moveaxis(x, -1, 1).copy())
    with torch.no_grad():
        expected = run(leaf).movedim(1, -1).numpy()
        model.use_tiling = False
        whole = run(leaf).movedim(1, -1).numpy()
    error = parity.relative_error(compiled(module, params, method, x), expected)
    print(f"{type(module).__name__} {method} {x.shape}: {error:.1e}")
    assert error < TOLERANCE
    assert parity.relative_error(whole, expected) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("method", "frames", "cut"),
    [
        ("moments", 1, REMAINDERS),
        ("decode", 5, ROWS),
        pytest.param("moments", 5, REMAINDERS, marks=pytest.mark.slow),
        pytest.param("decode", 5, REMAINDERS, marks=pytest.mark.slow),
        pytest.param("moments", 5, MUCH_OVERLAP, marks=pytest.mark.slow),
        pytest.param("decode", 5, MUCH_OVERLAP, marks=pytest.mark.slow),
    ],
)
def test_wan_equals_diffusers(method, frames, cut):
    pixels, size, stride = cut
    config = wan_examples.VAE
    model = diffusers.AutoencoderKLWan(**config).eval()
    parity.randomize(model)
    model.enable_tiling(*size, *stride)
    module = WanVAE.from_config(config, tiled=True, tile_size=size, tile_stride=stride)
    params = to_params(parity.state_dict(model), wan.vae_table(module))
    if method == "moments":

        def run(clips):
            return model.encode(clips).latent_dist.parameters

        x = normal(2, frames, *pixels, 3)
    else:
        mean, std = (
            torch.tensor(config[f"latents_{name}"])[:, None, None, None] for name in ("mean", "std")
        )

        def run(latents):
            return model.decode(latents * std + mean).sample

        x = normal(2, 1 + frames // 4, *(n // 4 for n in pixels), 3)
    compare(model, module, params, method, x, run)


@pytest.mark.parametrize(
    ("method", "pixels", "sample"),
    [
        # three rows and columns of tiles, the last ones one latent
        ("decode", (44, 36), (48, 40)),
        pytest.param("moments", (44, 36), (48, 40), marks=pytest.mark.slow),
        pytest.param("decode", (108, 40), (96, 80), marks=pytest.mark.slow),
        ("moments", (68, 40), (96, 80)),
    ],
)
def test_cogvideox_equals_diffusers(method, pixels, sample):
    config = {**cogvideox_examples.VAE, "sample_height": sample[0], "sample_width": sample[1]}
    model = diffusers.AutoencoderKLCogVideoX(**config).eval()
    parity.randomize(model)
    model.enable_tiling()
    module = CogVideoXVAE.from_config(config, tiled=True)
    params = to_params(parity.state_dict(model), cogvideox.vae_table(module))
    if method == "moments":

        def run(clips):
            return model.encode(clips).latent_dist.parameters

        x = normal(1, 9, *pixels, 3)
    else:

        def run(latents):
            return model.decode(latents / config["scaling_factor"]).sample

        x = normal(1, 3, *(n // 4 for n in pixels), 4)
    compare(model, module, params, method, x, run)


def test_default_tiles_are_those_of_diffusers():
    theirs = diffusers.AutoencoderKLWan(**wan_examples.VAE)
    sizes = theirs.tile_sample_min_height, theirs.tile_sample_min_width
    strides = theirs.tile_sample_stride_height, theirs.tile_sample_stride_width
    assert (WanVAE().tile_size, WanVAE().tile_stride) == (sizes, strides)
    # 240 x 360 pixels of 480 x 720, 1/6 and 1/5 of them overlap
    assert CogVideoXVAE()._cuts() == (
        [Cut(240, 200, 5, 25), Cut(360, 288, 9, 36)],
        [Cut(30, 25, 40, 200), Cut(45, 36, 72, 288)],
    )


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (WanVAE(tile_size=(100, 256)), r"tile_size=\(100, 256\).*multiples of 8"),
        (WanVAE(tile_stride=(192, 264)), "no larger than its tile"),
        (CogVideoXVAE(tiled=True, tile_size=(240, 244)), "tiles of 244 pixels.*multiple of 8"),
        (CogVideoXVAE(tiled=True, tile_overlap=(0.15, 0.2)), "240 pixels with an overlap of 0.15"),
    ],
)
def test_tiles_that_do_not_fit_are_named(module, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), normal(1, 1, 16, 16, 3))
