"""A tokenizer of bytes and of the words of a few texts, for small models trained from nothing."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from vidpref.files import write_text
from vidpref.language.chat_tokens import END_OF_TEXT, SPECIAL

_MOST = 2**14  # tokens; the texts are few, and all of their words fit


@dataclasses.dataclass(frozen=True)
class ByteTokenizer:
    """The 256 bytes, the words of texts by byte-pair encoding, and special tokens behind them.

    Attributes:
        special: special tokens besides those of every Qwen-VL model.
        texts: whose words are tokens; other words are written in parts, or byte by byte.
    """

    special: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {letter: number for number, letter in enumerate(alphabet)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        if self.texts:
            trainer = trainers.BpeTrainer(
                vocab_size=_MOST, min_frequency=1, initial_alphabet=alphabet, show_progress=False
            )
            tokenizer.train_from_iterator(self.texts, trainer)
        added = [AddedToken(n, special=True, normalized=False) for n in (*SPECIAL, *self.special)]
        tokenizer.add_special_tokens(added)
        return tokenizer

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def numbers(self) -> dict[str, int]:
        """Returns the numbers of the special tokens."""
        return {n: self._tokenizer.token_to_id(n) for n in (*SPECIAL, *self.special)}

    @property
    def digest(self) -> str:
        """Digits of the texts."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()[:12]

    def write(self, folder: Path) -> None:
        """Writes it as transformers reads it.

        Args:
            folder: created if absent.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "tokenizer.json", self._tokenizer.to_str())
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "model_max_length": 2**20,
        }
        write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
