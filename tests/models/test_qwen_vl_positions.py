"""Positions and arrays of rows with images and videos, against transformers."""

import numpy as np
import pytest
import torch

from tests.models.qwen_vl_examples import (
    CONFIGS,
    IMAGE,
    VIDEO,
    batch,
    image,
    original,
    row,
    their_inputs,
    video,
)
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.packing import Room, Row, pack
from vidpref.models.qwen_vl.positions import Media, mrope_positions, sequential_positions


def _config(family: str) -> QwenVLConfig:
    return QwenVLConfig.read(original(family).config.to_dict())


def _theirs(family: str, rows: list[Row], inputs) -> tuple[np.ndarray, np.ndarray]:
    """Positions [b, l, 3] and what transformers adds to the length for the next position."""
    given = their_inputs(rows, inputs)
    tokens = given["input_ids"]
    seconds = [m.seconds for r in rows for m in r.media if m.is_video]
    positions, deltas = original(family).model.get_rope_index(
        input_ids=tokens,
        mm_token_type_ids=(tokens == IMAGE).int() + 2 * (tokens == VIDEO).int(),
        image_grid_thw=given.get("image_grid_thw"),
        video_grid_thw=given.get("video_grid_thw"),
        attention_mask=given["attention_mask"],
        **({"second_per_grid_ts": torch.tensor(seconds)} if family == "qwen2_5_vl" else {}),
    )
    return positions.permute(1, 2, 0).numpy(), deltas[:, 0].numpy()


@pytest.mark.parametrize("family", CONFIGS)
def test_positions_are_those_of_transformers(family):
    config = _config(family)
    rows = batch(family, "mixed")
    long = [row(family, 3, video(t, 4, 8, seconds), 2) for t in (3, 12) for seconds in (0.083, 0.5)]
    for own, left in ((rows, False), (long, True)):
        inputs = pack(own, config, after="transformers", left=left)
        expected, deltas = _theirs(family, own, inputs)
        np.testing.assert_array_equal(inputs.positions[inputs.mask], expected[inputs.mask])
        for one, delta in zip(own, deltas, strict=True):
            found = mrope_positions(one.tokens, one.media, config, after="transformers")[1]
            assert found == len(one.tokens) + delta


@pytest.mark.parametrize(("grid", "after"), [((12, 4, 8), (18, 10)), ((3, 4, 4), (9, 8))])
def test_text_after_a_long_video(grid, after):
    config = _config("qwen2_vl")
    pads = int(np.prod(grid)) // 4
    tokens = np.array([*[1] * 6, *[VIDEO] * pads, 2])
    for rule, wanted in zip(("max", "transformers"), after, strict=True):
        positions, _ = mrope_positions(tokens, [Media(grid, True)], config, after=rule)
        assert positions[-1].tolist() == [wanted] * 3
    # a square frame whose side counts for more than its length is the same by both
    square = row("qwen2_vl", 2, video(3, 8, 8), 2)
    both = [
        mrope_positions(square.tokens, square.media, config, after=r)[0]
        for r in ("max", "transformers")
    ]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(
    ("seconds", "times"), [(1.0, [0, 2, 4, 6]), (0.5, [0, 1, 2, 3]), (0.083, [0, 0, 0, 0])]
)
def test_qwen2_5_counts_seconds(seconds, times):
    config = _config("qwen2_5_vl")
    one = row("qwen2_5_vl", video(4, 2, 2, seconds))
    positions, _ = mrope_positions(one.tokens, one.media, config)
    assert (positions[1:5, 0] - 1).tolist() == times


def test_sequential_positions_count_features_too():
    config = _config("qwen2_vl")
    one = row("qwen2_vl", 2, video(2, 4, 4), 3)
    inputs = pack([one], config, after=None)
    np.testing.assert_array_equal(inputs.positions[0], sequential_positions(len(one.tokens)))
    assert (pack([one], config).positions != inputs.positions).any()


def test_features_lie_where_windows_put_them():
    config = _config("qwen2_5_vl")  # windows of 2 x 2 features
    one = row("qwen2_5_vl", image(2, 2), video(2, 6, 4))
    inputs = pack([one], config)
    assert inputs.patches.pixels.shape[1:3] == (3, 32)  # windows of 4, 2 of them
    features = inputs.features[0][inputs.features[0] >= 0]
    # the image's only feature, then frames of 3 rows of 2: the third is in the second window
    assert features.tolist() == [0, *(8 + np.array([0, 1, 2, 3, 4, 5])), *range(16, 22)]
    places = features[1:7] - 8
    for place, (r, c) in zip(places, np.ndindex(3, 2), strict=True):
        at = inputs.patches.at[0, 1, place * 4 : place * 4 + 4]
        np.testing.assert_array_equal(at, [[2 * r + i, 2 * c + j] for i in (0, 1) for j in (0, 1)])
    assert inputs.patches.mask.sum() == 4 + 2 * 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [1, IMAGE]}, "has 1 tokens for features, and its images and videos 0|are used"),
        ({"tokens": [1, 64]}, r"row 0 of the batch: token 64 is not among the 64 .* tokenizer"),
        (
            {"media": [Media((1, 2, 3), False)], "tokens": [1]},
            r"\(1, 2, 3\) patches .* no multiple",
        ),
        ({"media": [image(2, 2)], "tokens": [VIDEO]}, "a video, .* next is the other kind"),
        ({"media": [image(4, 4)], "tokens": [IMAGE] * 3}, "takes 4 tokens, and fewer stand"),
        ({"media": [image(2, 2)], "tokens": [1]}, "tokens for 0 of its 1 images"),
        ({"media": [image(2, 2)], "pixels": [(1, 4, 95)], "tokens": [IMAGE]}, "has patches"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, message):
    config = _config("qwen2_vl")
    media = change.get("media", [])
    shapes = change.get("pixels", [(1, m.grid[1] * m.grid[2], 96) for m in media])
    pixels = [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(ValueError, match=message):
        pack([Row(np.array(change["tokens"]), media, pixels)], config)


def test_rows_larger_than_their_room_are_refused():
    config = _config("qwen2_vl")
    one = row("qwen2_vl", 2, video(3, 4, 4))
    assert pack([one], config, Room(20, 4, 16)).patches.pixels.shape == (1, 4, 16, 96)
    with pytest.raises(ValueError, match=r"16 tokens, and there is room for 15"):
        pack([one], config, Room(15, 3, 16))
    with pytest.raises(ValueError, match=r"3 frames of up to 16 patches, .*room for 3 of 12"):
        pack([one], config, Room(20, 3, 12))
    with pytest.raises(ValueError, match="after='first' is unknown"):
        pack([one], config, after="first")
