"""Images and videos as patches, against the processors of transformers."""

import numpy as np
import pytest
import torch
from transformers import Qwen2VLImageProcessorPil

from tests.language import video_processors
from vidpref.language.patches import VIDEOREWARD_PIXELS, Eye, cut
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.packing import Room, Row, pack
from vidpref.models.qwen_vl.sizes import PUBLISHED

CONFIGS = {name: QwenVLConfig.read(fields) for name, fields in PUBLISHED.items()}
QWEN2, QWEN3 = CONFIGS["Qwen2-VL-2B"], CONFIGS["Qwen3-VL-2B"]


def channels_first(patches: np.ndarray, side: int) -> np.ndarray:
    """Our patches [t, n, (t h w c)] as [t n, (c t h w)], the order of transformers."""
    flat = patches.reshape(-1, 2, side, side, 3).transpose(0, 4, 1, 2, 3)
    return flat.reshape(len(flat), -1)


@pytest.mark.parametrize("config", [QWEN2, QWEN3], ids=lambda c: c.family)
def test_images_are_those_of_the_image_processor(config):
    side = config.vision.patch_size
    halves = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16}
    size = {"shortest_edge": 56 * 56, "longest_edge": 200_000}
    processor = Qwen2VLImageProcessorPil(size=size, **(halves if config is QWEN3 else {}))
    eye = Eye.of(config, images=(56 * 56, 200_000), videos=(56 * 56, 200_000))
    rng = np.random.default_rng(0)
    for h, w in [(28, 56), (33, 77), (200, 91), (57, 300), (480, 832), (9, 40), (301, 299)]:
        image = rng.integers(0, 256, (h, w, 3)).astype(np.uint8)
        media, patches = eye.image(image)
        theirs = processor(image, return_tensors="np")
        assert [list(media.grid)] == theirs["image_grid_thw"].tolist()
        np.testing.assert_array_equal(channels_first(patches, side), theirs["pixel_values"])
    with pytest.raises(ValueError, match="200 times as long"):
        eye.image(np.zeros((3, 900, 3), np.uint8))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_patches_of_videos_are_those_of_the_video_processor(count):
    frames = np.random.default_rng(count).normal(size=(count, 56, 84, 3)).astype(np.float32)
    tensor = torch.tensor(frames).permute(0, 3, 1, 2)[None]
    theirs, *grid = video_processors.qwen2_vl.Qwen2VLVideoProcessor.patchify(None, tensor, 14, 2, 2)
    ours = cut(frames, QWEN2.vision)
    np.testing.assert_array_equal(channels_first(ours, 14), theirs[0].numpy())
    assert grid == [len(ours), 4, 6]


def test_a_mini_clip_as_videoreward_sees_it():
    eye = Eye.of(
        QWEN2,
        images=VIDEOREWARD_PIXELS,
        videos=VIDEOREWARD_PIXELS,
        resizer="float",
        one_factor_first=True,
    )
    media, patches = eye.video(np.zeros((4, 32, 32, 3), np.uint8), fps=2.0)
    assert media.tokens(QWEN2) == 288
    assert media.seconds == 1.0
    assert patches.shape == (2, 576, 1176)


def test_a_video_larger_than_its_room_is_refused():
    eye = Eye.of(QWEN2, images=(3136, 3136), videos=(3136, 3136))
    media, patches = eye.video(np.zeros((6, 60, 60, 3), np.uint8), fps=2.0)
    row = Row(np.array([1, *[QWEN2.video_token_id] * media.tokens(QWEN2)]), [media], [patches])
    pack([row], QWEN2, Room(13, 3, 16))
    with pytest.raises(ValueError, match=r"3 frames of up to 16 patches, .* room for 2 of 16"):
        pack([row], QWEN2, Room(13, 2, 16))
    with pytest.raises(ValueError, match=r"row 0 .* 13 tokens, and there is room for 12"):
        pack([row], QWEN2, Room(12, 3, 16))
