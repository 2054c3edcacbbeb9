"""A tokenizer of bytes, for small models that are trained from nothing."""

import json
from collections.abc import Iterable
from pathlib import Path

from vidpref.files import write_text
from vidpref.language.chat_tokens import END_OF_TEXT, SPECIAL

BYTES = 256


def byte_tokens(special: Iterable[str] = ()) -> dict[str, int]:
    """Returns the numbers of the special tokens of a tokenizer of bytes, behind the bytes'.

    Args:
        special: those besides `SPECIAL`.
    """
    return {name: BYTES + number for number, name in enumerate((*SPECIAL, *special))}


def write_byte_tokenizer(folder: Path, special: Iterable[str] = ()) -> int:
    """Writes a tokenizer of the 256 bytes and of special tokens, as transformers reads it.

    Args:
        folder: created if absent.
        special: further special tokens, behind those that a Qwen-VL model has.

    Returns:
        The number of tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in byte_tokens(special)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "tokenizer.json", tokenizer.to_str())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": 2**20,
    }
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
    return tokenizer.get_vocab_size()
