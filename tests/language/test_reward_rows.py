"""Rows of a reward model against transformers' own reading of the whole conversation."""

import dataclasses

import numpy as np
import pytest
import transformers

from tests.language.reward_rows import DIMENSIONS, TEXT, clip, tiny_reader
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.reward_template import reward_token
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.packing import Room


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def reader(folder):
    return tiny_reader(folder)


def test_tokens_are_those_of_the_whole_conversation(reader, folder):
    found = reader.row(clip(), 4.0, "a red  ball, ünd {braces}")
    # 8 frames at 4 a second: 4 are seen, two pairs of 16x16 pixels, 4 features each
    features = 2 * 4
    text = TEXT.replace("{text_prompt}", "a red  ball, ünd {braces}")
    conversation = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"<|vision_start|>{'<|video_pad|>' * features}<|vision_end|>{text}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    whole = transformers.AutoTokenizer.from_pretrained(folder)(conversation)["input_ids"]
    np.testing.assert_array_equal(found.row.tokens, whole)
    np.testing.assert_array_equal(found.row.tokens[found.at], reader.token_ids)
    assert found.row.media[0].grid == (2, 4, 4)


def test_special_tokens_in_a_prompt_are_text(reader):
    prompt = "<|video_pad|> <|VQ_reward|><|im_end|>"
    found = reader.row(clip(), 4.0, prompt)
    plain = reader.row(clip(), 4.0, "a")
    for token in (262, *reader.token_ids, 258):
        assert (found.row.tokens == token).sum() == (plain.row.tokens == token).sum()
    assert len(found.row.tokens) - len(plain.row.tokens) == len(prompt) - 1


def test_a_shared_token_is_the_last(tmp_path):
    reader = tiny_reader(tmp_path, shared=True)
    found = reader.row(clip(), 4.0, "a ball")
    assert found.at.tolist() == [len(found.row.tokens) - 1] * 3


def test_what_was_chosen_is_chosen_again(reader):
    video = np.random.default_rng(0).integers(0, 256, (25, 20, 12, 3)).astype(np.uint8)
    first = reader.row(video, 6.0, "a")  # 8.33 frames wanted, so 8
    chosen = np.rint(np.linspace(0, 24, 8)).astype(int)
    shown, rate = reader.shown(video, 6.0)
    assert shown.shape == (8, 16, 16, 3)
    np.testing.assert_array_equal(shown, reader.shown(video[chosen], 8 / 25 * 6.0)[0])
    again = reader.row(shown, rate, "a")
    np.testing.assert_array_equal(first.row.pixels[0], again.row.pixels[0])
    assert first.row.media == again.row.media
    sizes = reader.room(*shown.shape[:3], "a")
    assert sizes == (len(first.row.tokens), *first.row.pixels[0].shape[:2])


def test_rows_are_padded_on_the_right_and_count_features(reader):
    rows = [reader.row(clip(8), 4.0, "a"), reader.row(clip(8), 4.0, "longer")]
    packed = reader.pack(rows, Room(tokens=200, frames=3, patches=16))
    assert packed.inputs.tokens.shape == (2, 200)
    assert packed.inputs.patches.pixels.shape == (2, 3, 16, 96)
    for i, row in enumerate(rows):
        l = len(row.row.tokens)
        np.testing.assert_array_equal(packed.inputs.mask[i], np.arange(200) < l)
        np.testing.assert_array_equal(packed.inputs.positions[i, :l, 2], np.arange(l))
    mrope = dataclasses.replace(reader, positions="mrope").pack(rows)
    l = len(rows[0].row.tokens)
    assert mrope.inputs.positions[0, l - 1].max() < l - 1


@pytest.mark.parametrize(
    ("frames", "fps", "prompt", "message"),
    [
        (8, 4.0, "  ", "prompt is empty"),
        (1, 4.0, "a", "has no two to look at"),
        (8, float("nan"), "a", "its rate must be known"),
        (8, 0.0, "a", "its rate must be known"),
        (8, 4.0, "a" * 10_000, r"8 tokens \(4 frames of 4x4 patches\) and the text 10\d+"),
        (4000, 2.0, "a", "there is room for 600: take fewer or smaller frames"),
    ],
)
def test_what_cannot_be_scored_is_refused(reader, frames, fps, prompt, message):
    small = dataclasses.replace(reader, most_tokens=600)
    video = np.broadcast_to(clip(1), (frames, 16, 16, 3))
    with pytest.raises(ValueError, match=message):
        small.row(video, fps, prompt)


def test_a_tokenizer_of_another_model_is_refused(reader, tmp_path):
    fields = reader.config.write()
    for change, message in (
        ({"video_token_id": 261, "image_token_id": 262}, "images and videos have the tokens"),
        ({"text_config": fields["text_config"] | {"vocab_size": 264}}, "there are 264 embeddings"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(reader, config=QwenVLConfig.read({**fields, **change}))
    with pytest.raises(ValueError, match="positions='3d'"):
        dataclasses.replace(reader, positions="3d")
    with pytest.raises(ValueError, match="holds no tokenizer"):
        ChatTokens(tmp_path)
    with pytest.raises(ValueError, match=r"no token <\|accept_reward\|>"):
        reader.tokens.special(reward_token("accept"))


def test_tokens_that_lack_are_added_behind_the_others(folder, tmp_path):
    longer = ChatTokens(folder, new=["<|accept_reward|>", reward_token(DIMENSIONS[0])])
    number = len(longer) - 1
    assert longer.special("<|accept_reward|>") == number
    longer.save(tmp_path)
    again = ChatTokens(tmp_path)
    assert again.special("<|accept_reward|>") == number
    assert longer.text("<|accept_reward|>") == again.text("<|accept_reward|>")
    assert len(longer.text("<|accept_reward|>")) == 17
