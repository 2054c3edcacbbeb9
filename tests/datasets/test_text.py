import hashlib

import numpy as np
import pytest

from vidpref.datasets.records import BrokenRecords
from vidpref.datasets.text import TextCache, WordTable


class Counting(WordTable):
    """A word table that remembers what it was asked."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.asked = []

    def encode(self, prompts):
        self.asked += prompts
        return super().encode(prompts)


def test_golden_value():
    # The bits of SHAKE-256("red") by hand: word = real signs, then imaginary signs; position 0
    # does not turn, so the embedding is (signs + np.array([1, 1, 0, 0])) / sqrt(1.5).
    bits = [(hashlib.shake_256(b"red").digest(1)[0] >> (7 - i)) & 1 for i in range(4)]
    signs = np.array([2 * bit - 1 for bit in bits])
    text, mask = WordTable(3, 4).encode(["Red"])
    np.testing.assert_allclose(
        text[0, 0], (signs + np.array([1, 1, 0, 0])) / np.sqrt(1.5), rtol=1e-6
    )
    # frozen so that caches and checkpoints of an earlier version keep their meaning
    second, _ = WordTable(3, 4).encode(["a red ball"])
    np.testing.assert_allclose(second[0, 1], [0.687058, 1.810262, -0.441155, -0.237247], atol=1e-5)
    assert mask.tolist() == [[True, False, False]]
    assert not text[0, 1:].any()


def test_case_and_spaces_do_not_matter_but_words_and_order_do():
    table = WordTable(8, 64)
    text, mask = table.encode(
        ["Put  the red ball , now", "put the red ball, now", "put the red cone, now"]
    )
    np.testing.assert_array_equal(text[0], text[1])
    assert mask.sum(1).tolist() == [6, 6, 6]
    differs = (text[1] != text[2]).any(-1)
    assert differs.tolist() == [False, False, False, True, False, False, False, False]
    text, _ = table.encode(["the red ball on the blue cone", "the blue cone on the red ball"])
    means = text.mean(1)  # order survives pooling
    assert np.linalg.norm(means[0] - means[1]) > 0.3 * np.linalg.norm(means[0])


def test_words_are_nearly_orthogonal_and_of_unit_variance():
    words = [f"word{i}" for i in range(300)]
    table = WordTable(1, 512)
    vectors = table.encode(words)[0][:, 0].astype(np.float64)
    assert abs((vectors**2).mean() - 1.0) < 0.02
    signs = vectors * np.sqrt(1.5) - np.repeat([1, 0], 256)  # without the position
    cosines = signs @ signs.T / 512
    np.testing.assert_allclose(np.diag(cosines), 1.0, atol=1e-5)
    off = cosines[~np.eye(300, dtype=bool)]
    assert abs(off.std() - 1 / np.sqrt(512)) < 0.003  # independent random signs
    assert abs(off).max() < 0.3


def test_too_many_words_name_the_prompt_unless_truncation_is_asked_for():
    prompt = "one two three four"
    with pytest.raises(ValueError, match=r"'one two three four' has 4 words, text.length is 3"):
        WordTable(3, 8).encode(["one", prompt])
    table = WordTable(3, 8, truncate=True)
    np.testing.assert_array_equal(table.encode([prompt])[0], table.encode(["one two three"])[0])
    assert table.fingerprint != WordTable(3, 8).fingerprint
    with pytest.raises(ValueError, match="has no word"):
        table.encode(["  "])


@pytest.mark.parametrize(("length", "dim"), [(0, 8), (4, 7), (4, 0)])
def test_bad_sizes_are_refused(length, dim):
    with pytest.raises(ValueError, match="positive length and an even dim"):
        WordTable(length, dim)


def test_cache_gives_what_the_encoder_gives(tmp_path):
    prompts = ["a red ball", "the blue cone falls", "a red ball", "tearing paper , slowly"]
    table = WordTable(6, 10)
    cache = TextCache.build(tmp_path / "deep" / "text", table, prompts)
    assert len(cache) == 3
    assert (cache.length, cache.dim) == (6, 10)
    assert cache.fingerprint == table.fingerprint
    for prompt in prompts:
        text, mask = cache[prompt]
        expected, expected_mask = table.encode([prompt])
        assert text.dtype == np.float32
        np.testing.assert_array_equal(text, expected[0])
        np.testing.assert_array_equal(mask, expected_mask[0])
    with pytest.raises(
        KeyError, match=r"no embedding of the prompt 'a red bal' .*did you mean a red ball\?"
    ):
        cache["a red bal"]


def test_cache_encodes_every_prompt_once(tmp_path):
    encoder = Counting(6, 10)
    TextCache.build(tmp_path, encoder, ["one", "two", "one"])
    TextCache.build(tmp_path, encoder, ["two", "one"])
    assert encoder.asked == ["one", "two"]
    cache = TextCache.build(tmp_path, encoder, ["three", "two"])
    assert encoder.asked == ["one", "two", "three"]
    assert cache.prompts == ["one", "two", "three"]
    np.testing.assert_array_equal(cache["two"][0], WordTable(6, 10).encode(["two"])[0][0])


def test_encoders_do_not_share_embeddings(tmp_path):
    TextCache.build(tmp_path, WordTable(6, 10), ["one"])
    cache = TextCache.build(tmp_path, WordTable(6, 20), ["one"])
    assert cache["one"][0].shape == (6, 20)
    with pytest.raises(ValueError, match="several encoders"):
        TextCache(tmp_path)
    assert TextCache(tmp_path, WordTable(6, 10).fingerprint).dim == 10


def test_cache_errors(tmp_path):
    with pytest.raises(BrokenRecords, match="no text embeddings"):
        TextCache(tmp_path)
    with pytest.raises(ValueError, match="line break"):
        TextCache.build(tmp_path, WordTable(6, 10), ["one\ntwo"])
    assert list(tmp_path.iterdir()) == []


def test_many_prompts_cross_the_encoder_chunks(tmp_path):
    prompts = [f"prompt number {i}" for i in range(600)]
    cache = TextCache.build(tmp_path, WordTable(4, 6), prompts)
    for i in (0, 255, 256, 511, 512, 599):
        expected = WordTable(4, 6).encode([prompts[i]])[0][0]
        np.testing.assert_array_equal(cache[prompts[i]][0], expected)
