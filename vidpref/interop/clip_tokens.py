"""The tokenizer of CLIP from the folder of a model, as transformers reads it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vidpref.downloads import refuse_stand_in
from vidpref.typing import Int

_WHOLE, _PIECES = "tokenizer.json", ("vocab.json", "merges.txt")


class ClipTokens:
    """Texts as CLIP's tokens, cut at the length that the model has places for.

    Args:
        folder: with tokenizer.json, or vocab.json and merges.txt.
        length: tokens of a text at most, both ends among them.
        vocabulary: tokens that the model knows.

    Raises:
        ValueError: no such tokenizer, or one with more tokens.
    """

    def __init__(self, folder: Path, length: int, vocabulary: int):
        self._length, self._warned = length, False
        there = [name for name in (_WHOLE, *_PIECES) if (folder / name).exists()]
        if _WHOLE not in there and len(there) < len(_PIECES):
            raise ValueError(
                f"{folder} holds neither {_WHOLE} nor {' and '.join(_PIECES)}: give the folder of "
                "CLIP's tokenizer"
            )
        for name in there:
            refuse_stand_in(folder / name)
        import transformers  # takes seconds

        try:
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(
                folder, local_files_only=True
            )
            ends = self._tokenizer([""])["input_ids"][0]
        except Exception as error:  # the libraries raise bare Exceptions and errors of any type
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{folder} holds no tokenizer that can be read: {reason}") from error
        if len(ends) != 2 or ends[1] != self._tokenizer.eos_token_id:
            raise ValueError(f"{folder}: CLIP's tokenizer puts a text between two tokens")
        self.end = int(ends[1])
        if len(self._tokenizer) > vocabulary:
            raise ValueError(
                f"{folder}: the tokenizer has {len(self._tokenizer)} tokens, and the model knows "
                f"{vocabulary}; give its own"
            )

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "b l"]:
        """Returns the tokens; behind a text's end token stand more of them.

        Of a text that is too long the end is cut off, as CLIP does; that is said once.
        """
        whole = self._tokenizer(list(texts), verbose=False)["input_ids"]
        found = np.full((len(whole), self._length), self.end, np.int32)
        for row, tokens in zip(found, whole, strict=True):
            kept = tokens[: self._length - 1]
            row[: len(kept)] = kept
        long = [i for i, tokens in enumerate(whole) if len(tokens) > self._length]
        if long and not self._warned:
            self._warned = True
            logging.warning(
                "%d of %d prompts are longer than CLIP's %d tokens and are cut, such as %r; this "
                "is said once",
                len(long),
                len(whole),
                self._length,
                texts[long[0]][:60],
            )
        return found
