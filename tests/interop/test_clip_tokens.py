"""Texts as CLIP's tokens: ends, what is cut, and folders that hold no such tokenizer."""

import json
import logging

import numpy as np
import pytest

from tests.interop.tiny_clip import END, START, VOCABULARY, write_tokenizer
from vidpref.interop.clip_tokens import ClipTokens

SIZE = len(VOCABULARY)


def by_hand(text):
    """Of lower-case words, none of whose letters are joined."""
    letters = [c + "</w>" * (i == len(w) - 1) for w in text.split() for i, c in enumerate(w)]
    return [VOCABULARY.index(token) for token in (START, *letters, END)]


def test_tokens_are_the_letters_between_two_ends(tmp_path):
    write_tokenizer(tmp_path)
    found = ClipTokens(tmp_path, 12, SIZE)(["a Cat", " two  words"])
    end = VOCABULARY.index(END)
    for row, text in zip(found, ("a cat", "two words"), strict=True):
        wanted = by_hand(text)
        assert row.tolist() == wanted + [end] * (12 - len(wanted))
    assert found.dtype == np.int32


def test_what_is_too_long_is_cut_before_the_end_token_and_said_once(tmp_path, caplog):
    write_tokenizer(tmp_path)
    tokens = ClipTokens(tmp_path, 6, SIZE)
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = tokens(["abcdef", "abcd", "abc"])
        tokens(["abcdefg"])
    assert found[0].tolist() == [*by_hand("abcdef")[:5], VOCABULARY.index(END)]
    assert found[1].tolist() == by_hand("abcd")
    said = [r.getMessage() for r in caplog.records if r.name == "absl"]
    assert len(said) == 1
    assert said[0].startswith("1 of 3 prompts are longer than CLIP's 6 tokens and are cut, such as")


def test_files_of_words_and_merges_are_enough(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(VOCABULARY)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    assert ClipTokens(tmp_path, 12, SIZE)(["a cat"])[0, :6].tolist() == by_hand("a cat")


def test_folders_without_such_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"neither tokenizer\.json nor vocab\.json and merg"):
        ClipTokens(tmp_path, 12, SIZE)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no tokenizer that can be read"):
        ClipTokens(tmp_path, 12, SIZE)
    write_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=f"has {SIZE} tokens, and the model knows 9; give its own"):
        ClipTokens(tmp_path, 12, 9)
