"""Pixels as a reward model sees them: what the reader makes of bytes, and a gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.language.reward_rows import tiny_reader
from tests.models.qwen_vl_examples import CONFIGS, TOKENS
from vidpref.language.patches import Eye
from vidpref.language.seen_pixels import PIXELS, SeenPixels
from vidpref.language.video_reward import Viewing
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.reward import to_arrays

FPS = 4.0


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return tiny_reader(tmp_path_factory.mktemp("tokenizer"))


def with_windows(reader):
    """The same reader of a model whose patches lie window by window."""
    config = QwenVLConfig.read({"model_type": "qwen2_5_vl", **CONFIGS["qwen2_5_vl"], **TOKENS})
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, vocab_size=400))
    for name in ("image", "video", "vision_start", "vision_end"):
        key = f"{name}_token_id"
        config = dataclasses.replace(config, **{key: getattr(reader.config, key)})
    eye = Eye.of(config, images=(64, 576), videos=(64, 576), resizer="float", one_factor_first=True)
    return dataclasses.replace(reader, config=config, eye=eye)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("clip", [(8, 16, 16), (7, 20, 12), (9, 8, 24), (5, 16, 16)])
def test_patches_are_those_of_the_reader(clip, windows, reader):
    reader = with_windows(reader) if windows else reader
    videos = np.random.default_rng(0).integers(0, 256, (2, *clip, 3)).astype(np.uint8)
    seen = SeenPixels(reader, clip, FPS)
    rows = [reader.row(video, FPS, prompt) for video, prompt in zip(videos, "ab", strict=True)]
    room = seen.room(128)
    wanted = to_arrays(reader.pack(rows, room))
    found = seen.patches(jnp.asarray(videos / 127.5 - 1.0, jnp.float32))
    resized = seen.size != clip[1:]
    # the reader rounds what it resizes to bytes: half a byte, over the deviation of a colour
    tolerance = 0.55 / 255 / 0.26 if resized else 1e-5
    np.testing.assert_allclose(found, wanted.pop(PIXELS), atol=tolerance)
    arrays = [seen.arrays(prompt, room) for prompt in "ab"]
    for name, values in wanted.items():
        np.testing.assert_array_equal(np.stack([x[name] for x in arrays]), values, err_msg=name)


def test_the_gradient_is_that_of_finite_differences(reader):
    seen = SeenPixels(reader, (5, 20, 12), FPS)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        clips, way = (rng.uniform(-0.8, 0.8, (1, 5, 20, 12, 3)) for _ in range(2))
        weights = jnp.asarray(rng.normal(size=seen.patches(jnp.asarray(clips)).shape))
        value = lambda x: (weights * jnp.sin(seen.patches(x))).sum()  # noqa: E731
        slope = (jax.grad(value)(jnp.asarray(clips)) * way).sum()
        step = 1e-6
        up, down = (float(value(jnp.asarray(clips + s * step * way))) for s in (1, -1))
    np.testing.assert_allclose(float(slope), (up - down) / (2 * step), rtol=1e-6)


def test_fewer_frames_are_seen(reader):
    seen = SeenPixels(reader, (8, 16, 16), FPS, most=2)
    assert seen.frames.tolist() == [0, 7]
    video = np.random.default_rng(0).integers(0, 256, (1, 8, 16, 16, 3)).astype(np.uint8)
    few = dataclasses.replace(reader, viewing=Viewing(least=2, most=2))
    wanted = to_arrays(few.pack([few.row(video[0], FPS, "a")]))[PIXELS]
    found = seen.patches(jnp.asarray(video / 127.5 - 1.0, jnp.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    slope = jax.grad(lambda x: seen.patches(x).sum())(jnp.zeros((1, 8, 16, 16, 3)))
    assert (np.abs(slope).sum(axis=(0, 2, 3, 4)) > 0).tolist() == [True, *[False] * 6, True]
