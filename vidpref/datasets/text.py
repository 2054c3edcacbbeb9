"""Frozen text embeddings: what turns prompts into `[l, d]`, and the cache that keeps them."""

import collections
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from vidpref.config.nearest import nearest
from vidpref.coordination.agreeing import barrier, decided, first_host
from vidpref.datasets.records import BrokenRecords, RecordFile, write_records
from vidpref.storage.mirror import pull
from vidpref.typing import Array, Bool, Float

_ENCODED_AT_ONCE = 256  # prompts; bounds the memory of a large encoder


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen text encoder.

    Attributes:
        fingerprint: changes whenever an embedding changes.
        length: tokens `l` of every embedding.
        dim: width `d`.
    """

    fingerprint: str
    length: int
    dim: int

    def encode(self, prompts: Sequence[str]) -> tuple[Float[Array, "b l d"], Bool[Array, "b l"]]:
        """Returns embeddings and their mask: real tokens first, then padding (zero, False)."""
        ...


class WordTable:
    """Embeds any word by random signs drawn from its hash; no vocabulary, nothing learned.

    A word is `d / 2` complex numbers with real and imaginary part +-1, the bits of its SHAKE-256
    hash, so two words are nearly orthogonal and the table is the same on every machine. At
    position `p` it becomes `(word + 1) exp(i p theta)`, `theta` geometric from 1 to `1 / length`:
    the 1 gives sinusoidal positions that attention can address whatever the word is, the rotation
    of the word keeps the order of words visible in a mean over tokens.

    Args:
        length: tokens of every embedding.
        dim: width; even.
        truncate: cut prompts of more than `length` words instead of refusing them.

    Raises:
        ValueError: `dim` is odd, or a size is not positive.
    """

    def __init__(self, length: int, dim: int, *, truncate: bool = False):
        if length < 1 or dim < 2 or dim % 2:
            raise ValueError(
                f"a word table needs a positive length and an even dim, got {length} and {dim}"
            )
        self.length, self.dim, self.truncate = length, dim, truncate
        self.fingerprint = f"words-v1-{length}x{dim}" + ("-truncated" if truncate else "")
        exponent = np.arange(dim // 2) / max(dim // 2 - 1, 1)
        self._turns = np.exp(1j * np.outer(np.arange(length), float(length) ** -exponent))

    def encode(self, prompts: Sequence[str]) -> tuple[Float[Array, "b l d"], Bool[Array, "b l"]]:
        """Embeds prompts, lower-cased; a punctuation mark is a word of its own.

        Raises:
            ValueError: a prompt has no word, or more than `length` of them.
        """
        text = np.zeros((len(prompts), self.length, self.dim), np.float32)
        mask = np.zeros((len(prompts), self.length), bool)
        for row, prompt in enumerate(prompts):
            words = self._words(prompt)
            turned = (np.stack([self._word(w) for w in words]) + 1) * self._turns[: len(words)]
            # |+-1 +-i|^2 + 1 = 3 for two numbers: back to unit variance
            text[row, : len(words)] = np.concatenate([turned.real, turned.imag], 1) / 1.5**0.5
            mask[row, : len(words)] = True
        return text, mask

    def check(self, prompts: Iterable[str]) -> None:
        """Refuses prompts that `encode` would refuse; nothing is embedded.

        Raises:
            ValueError: a prompt has no word, or more than `length` of them.
        """
        for prompt in prompts:
            self._words(prompt)

    def _words(self, prompt: str) -> list[str]:
        words = re.findall(r"\w+|[^\w\s]", prompt.lower())
        if not words:
            raise ValueError(f"the prompt {prompt!r} has no word")
        if len(words) > self.length and not self.truncate:
            raise ValueError(
                f"the prompt {prompt!r} has {len(words)} words, text.length is {self.length}: "
                "set config.text.length higher"
            )
        return words[: self.length]

    def _word(self, word: str) -> np.ndarray:
        digest = hashlib.shake_256(word.encode()).digest((self.dim + 7) // 8)
        signs = 2.0 * np.unpackbits(np.frombuffer(digest, np.uint8), count=self.dim) - 1.0
        return signs[: self.dim // 2] + 1j * signs[self.dim // 2 :]


class TextCache:
    """Embeddings of prompts, computed once, read at random from `folder/text-*.array_record`.

    Args:
        folder: where `build` wrote.
        fingerprint: fingerprint of the encoder; needed where the folder holds several encoders'
            embeddings.

    Raises:
        BrokenRecords: nothing was built there, or it is damaged.
        ValueError: several encoders and no fingerprint.
    """

    def __init__(self, folder: str | Path, fingerprint: str | None = None):
        pattern = "text-*.array_record" if fingerprint is None else _file_name(fingerprint)
        found = sorted(Path(folder).glob(pattern))
        if not found:
            raise BrokenRecords(f"{folder}: no text embeddings ({pattern}); run TextCache.build")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{folder} holds several encoders' embeddings ({names}): name one")
        self._records = RecordFile(found[0])
        index = self._records[len(self._records) - 1]  # the last record says what the others are
        self.fingerprint: str = index["fingerprint"]
        self.length: int = index["length"]
        self.dim: int = index["dim"]
        prompts = index["prompts"].split("\n") if len(self._records) > 1 else []
        self._rows = {prompt: row for row, prompt in enumerate(prompts)}

    @classmethod
    def build(
        cls,
        folder: str | Path,
        encoder: TextEncoder,
        prompts: Iterable[str],
        *,
        shared: bool = True,
    ) -> "TextCache":
        """Embeds the prompts that `folder` lacks and returns the cache of all.

        All processes embed together, as a network lies on the devices of all, and the first one
        writes.

        Args:
            folder: created if absent.
            encoder: asked only for prompts it has not embedded there before.
            prompts: duplicates are embedded once.
            shared: whether all processes see one folder, rather than each its own.

        Raises:
            ValueError: a prompt the encoder refuses, or one with a line break.
        """
        path = Path(folder) / _file_name(encoder.fingerprint)
        wanted = list(dict.fromkeys(prompts))
        for prompt in wanted:
            if "\n" in prompt:
                raise ValueError(f"a prompt is one line, this one has a line break: {prompt!r}")
        there = decided("texts that are there", path.exists) if shared else path.exists()
        old = cls(folder, encoder.fingerprint) if there else None
        missing = [prompt for prompt in wanted if old is None or prompt not in old]
        if old is None or missing:
            records = _records(encoder, old, missing)
            if first_host() or not shared:
                write_records(path, records)
            else:
                collections.deque(records, maxlen=0)
            barrier("texts are embedded")
            if shared:
                pull(path.parent)  # of a bucket, what the first process wrote
        return cls(folder, encoder.fingerprint)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, prompt: object) -> bool:
        return prompt in self._rows

    @property
    def prompts(self) -> list[str]:
        """Every prompt of the cache."""
        return list(self._rows)

    def __getitem__(self, prompt: str) -> tuple[Float[Array, "l d"], Bool[Array, " l"]]:
        """Returns the embedding of a prompt and the mask of its real tokens.

        Raises:
            KeyError: the prompt was not given to `build`; names the nearest that was.
        """
        if prompt not in self._rows:
            hint = nearest(prompt, self._rows, most=1)
            raise KeyError(f"no embedding of the prompt {prompt!r} among {len(self)}; {hint}")
        tokens = self._records[self._rows[prompt]]["text"]
        text = np.zeros((self.length, self.dim), tokens.dtype)
        text[: len(tokens)] = tokens
        return text, np.arange(self.length) < len(tokens)


def _records(encoder: TextEncoder, old: TextCache | None, missing: Sequence[str]) -> Iterator[dict]:
    """The records of a cache file: real tokens of every prompt, then what the file holds."""
    prompts = old.prompts if old else []
    for prompt in prompts:
        text, mask = old[prompt]
        yield {"text": text[mask]}
    for start in range(0, len(missing), _ENCODED_AT_ONCE):
        text, mask = encoder.encode(missing[start : start + _ENCODED_AT_ONCE])
        for tokens, real in zip(np.asarray(text), np.asarray(mask), strict=True):
            count = int(real.sum())
            if not real[:count].all():
                raise ValueError(f"{encoder.fingerprint}: padding before the end of a text")
            yield {"text": tokens[:count]}
    yield {
        "fingerprint": encoder.fingerprint,
        "length": encoder.length,
        "dim": encoder.dim,
        "prompts": "\n".join([*prompts, *missing]),
    }


def _file_name(fingerprint: str) -> str:
    return f"text-{hashlib.sha256(fingerprint.encode()).hexdigest()[:12]}.array_record"
