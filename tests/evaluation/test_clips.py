"""Encoded clips decode to what went in."""

import base64
import io

import av
import numpy as np
import pytest
from report_examples import moving_square

from vidpref.datasets.pictures import enlarge
from vidpref.evaluation.clips import contact_sheet, webm, webm_data_uri


def _decode(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


@pytest.mark.parametrize("shape", [(8, 16, 16), (1, 16, 16), (5, 37, 53), (16, 129, 201)])
def test_video_shows_every_frame_enlarged(shape):
    t, h, w = shape
    clip = np.full((t, h, w, 3), (205, 208, 204), np.uint8)
    for i in range(t):
        clip[i, h // 4 : h // 2, i : i + w // 3] = (214, 60, 48)
    decoded = _decode(webm(clip))
    factor = decoded.shape[1] // h
    assert decoded.shape == (t, factor * h, factor * w, 3)
    assert min(decoded.shape[1:3]) >= 128
    error = np.abs(decoded.astype(int) - enlarge(clip, min_side=128))
    assert error.mean() < 2
    if factor > 1:  # the halved chroma blurs edges of clips that are not enlarged
        centres = decoded[:, factor // 2 :: factor, factor // 2 :: factor].astype(int)
        assert np.abs(centres - clip).max() < 30


def test_video_lasts_as_long_as_its_frames():
    with av.open(io.BytesIO(webm(moving_square((200, 0, 0)), fps=4))) as container:
        assert container.duration / av.time_base == pytest.approx(2.0, abs=0.01)


def test_video_is_small_and_the_same_every_time():
    clip = moving_square((200, 0, 0))
    uri = webm_data_uri(clip)
    assert uri == webm_data_uri(clip)
    prefix, _, data = uri.partition(",")
    assert prefix == "data:video/webm;base64"
    assert len(base64.b64decode(data)) < 5000


def test_contact_sheet_puts_frames_in_reading_order():
    clip = moving_square((200, 0, 0), frames=5)
    sheet = _decode(contact_sheet(clip, columns=3, min_side=16))[0]
    assert sheet.shape == (2 * 16 + 2, 3 * 16 + 4, 3)
    np.testing.assert_array_equal(sheet[:16, 18:34], clip[1])
    np.testing.assert_array_equal(sheet[18:, 18:34], clip[4])
    assert (sheet[18:, 36:] == 255).all()


def test_what_cannot_be_encoded():
    with pytest.raises(ValueError, match="without frames"):
        webm(np.zeros((0, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="fps"):
        webm(np.zeros((1, 16, 16, 3), np.uint8), fps=0.0)
    with pytest.raises(ValueError, match="0 columns"):
        contact_sheet(np.zeros((1, 16, 16, 3), np.uint8), columns=0)
