"""Tokenizer folders as they come, against what transformers reads from a whole one."""

import json
import shutil

import pytest
import sentencepiece
import transformers

from vidpref.interop.tokenizers import read_tokenizer, tokenizer_fault

PIECES = ["▁a", "▁red", "▁circle", "▁moves", "▁", "c", "t", ";"]
PROMPTS = ["a red  circle moves", "a cat; moves", ""]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214\nsize 12345\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder as `save_pretrained` writes it."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(piece, -1.0 - i / 10) for i, piece in enumerate(PIECES)]
    folder = tmp_path_factory.mktemp("whole") / "tokenizer"
    transformers.T5Tokenizer(vocab=special + pieces, extra_ids=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A model of sentencepiece."""
    path = tmp_path_factory.mktemp("pieces") / "spiece"
    words = ["a", "red", "circle", "rides", "a", "deer"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words[i:] + words[:i]) for i in range(6)]),
        model_prefix=str(path),
        vocab_size=16,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return path.with_suffix(".model")


def encoded(tokenizer):
    batch = tokenizer(PROMPTS, padding="max_length", max_length=9, truncation=True)
    return batch["input_ids"], batch["attention_mask"]


INDICES = [
    None,
    {},
    {"tokenizer": [None, None]},
    {"tokenizer": ["transformers", "T5TokenizerFast"]},  # of Wan
    {"tokenizer": ["transformers", "T5Tokenizer"]},  # of CogVideoX
]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("config", [None, {}, {"tokenizer_class": "OfAnotherRelease"}])
def test_tokenizer_json_alone_is_enough(whole, tmp_path, index, config):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    shutil.copy(whole / "tokenizer.json", folder)
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if index is not None:
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert encoded(read_tokenizer(folder)) == encoded(
        transformers.AutoTokenizer.from_pretrained(whole)
    )


def test_pieces_alone_are_enough(pieces, tmp_path):
    shutil.copy(pieces, tmp_path / "spiece.model")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    tokens, mask = encoded(read_tokenizer(tmp_path))
    for prompt, row, real in zip(PROMPTS, tokens, mask, strict=True):
        assert [t for t, r in zip(row, real, strict=True) if r] == [*theirs.encode(prompt)[:8], 1]


def of_pieces(content):
    def breaks(folder):
        (folder / "tokenizer.json").unlink()
        (folder / "spiece.model").write_bytes(content)

    return breaks


def of(name, content):
    return lambda folder: (folder / name).write_text(content)


def another_model(folder):
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"Unigram"', '"Onigram"'))


def on_the_left(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (of("tokenizer.json", POINTER), r"tokenizer\.json: a pointer of git-lfs.*git lfs pull"),
        (of_pieces(POINTER.encode()), r"spiece\.model: a pointer of git-lfs.*git lfs pull"),
        (of("tokenizer_config.json", POINTER), r"tokenizer_config\.json: a pointer of git-lfs"),
        (of("tokenizer_config.json", '{"extra_ids": 1000000000}'), r"extra_ids=1000000000 must be"),
        (of("tokenizer_config.json", '{"extra_ids": null}'), r"extra_ids=None must be from 0 to"),
        (of("special_tokens_map.json", ""), r"special_tokens_map\.json: an empty file"),
        (of_pieces(b""), r"spiece\.model: an empty file"),
        (of_pieces(b"\n\xff\xff\xff"), r"spiece\.model is damaged or no model of sentencepiece"),
        (of_pieces(b"<html>"), r"spiece\.model: a page of HTML"),
        (of("tokenizer.json", '{"model": {"vo'), r"tokenizer\.json: not JSON"),
        (of("tokenizer.json", '{"a": 1}'), r"tokenizer\.json is no tokenizer"),
        (of("tokenizer_config.json", "[]"), r"tokenizer_config\.json: holds no fields"),
        (of("tokenizer_config.json", '{"a": 1,\n"a": 2}'), r"config\.json, line 2: the key 'a'"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "holds neither tokenizer.json nor"),
        (another_model, r"tokenizer holds no tokenizer that can be read: data did not match"),
        (on_the_left, "pads on the left"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(whole, tmp_path, breaks, message):
    folder = tmp_path / "tokenizer"
    shutil.copytree(whole, folder)
    assert tokenizer_fault(folder) == ""
    breaks(folder)
    with pytest.raises(ValueError, match=message) as error:
        read_tokenizer(folder)
    assert "tiktoken" not in str(error.value)


def test_a_class_that_transformers_lacks(whole, tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    shutil.copy(whole / "tokenizer.json", folder)
    (tmp_path / "model_index.json").write_text('{"tokenizer": ["mine", "MyTokenizer"]}')
    with pytest.raises(ValueError, match="transformers has no tokenizer 'MyTokenizer'"):
        read_tokenizer(folder)
