"""The tokenizer of small models: words of texts, bytes for all else, special tokens behind them."""

import transformers

from vidpref.config.by_name import named_config
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.language.chat_tokens import SPECIAL, ChatTokens
from vidpref.rewards.questions import reasoned
from vidpref.stages.judge_kinds import scratch_tokenizer
from vidpref.stages.judged_world import reasons


def test_words_of_texts_are_tokens_and_all_else_is_bytes(tmp_path):
    tokenizer = ByteTokenizer(("<|more|>",), ("move the red ball", "Good", " Good"))
    tokenizer.write(tmp_path)
    tokens = ChatTokens(tmp_path)
    assert len(tokens) == len(tokenizer)
    for text, count in (("move the red ball", 4), ("Good", 1), ("zü", 3)):
        numbers = tokens.text(text)
        assert tokens.read(numbers) == text
        assert len(numbers) == count, text
    same = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert same("move the red ball")["input_ids"] == tokens.text("move the red ball")
    numbers = tokenizer.numbers()
    last = range(len(tokenizer) - len(SPECIAL) - 1, len(tokenizer))
    assert [numbers[name] for name in (*SPECIAL, "<|more|>")] == list(last)
    assert ByteTokenizer(("<|more|>",), tokenizer.texts).numbers() == numbers
    assert ByteTokenizer().numbers()[SPECIAL[0]] == 256
    assert ByteTokenizer(texts=("a",)).digest != ByteTokenizer(texts=("b",)).digest


def test_a_small_judge_is_asked_in_words_that_it_has(tmp_path):
    tokenizer = scratch_tokenizer(named_config("critic:mini"))
    tokenizer.write(tmp_path)
    tokens = ChatTokens(tmp_path)
    for word in ("Good", "Normal", "Poor", "Accept", "Reject", "First", "Second", "Yes", "No"):
        assert len(tokens.text(word)) == 1, word
    assert len(tokens.text("move the blue cone up above the grey floor")) == 9
    assert len(tokens.text("system\nYou are a helpful assistant.")) < 10


def test_a_small_judge_that_reasons_has_the_words_of_its_reasons(tmp_path):
    with_reasons = ["reward.vlm_judge.answers=reasoned"]
    scratch_tokenizer(named_config("critic:mini", with_reasons)).write(tmp_path / "reasoned")
    scratch_tokenizer(named_config("critic:mini")).write(tmp_path / "plain")
    told = reasoned(reasons()[5], "Poor")
    assert told.startswith("<think>something is left that")
    short, long = (len(ChatTokens(tmp_path / name).text(told)) for name in ("reasoned", "plain"))
    assert (short, long > 1.5 * short) == (24, True)
