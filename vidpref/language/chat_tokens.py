"""Text and special tokens of a Qwen-VL model as numbers."""

import functools
import logging
import os
from collections.abc import Iterable
from pathlib import Path

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
END_OF_TEXT = "<|endoftext|>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)


class ChatTokens:
    """The tokenizer of a folder, in which text never becomes a special token.

    Args:
        folder: of a model or of its tokenizer alone, as transformers reads it.
        new: special tokens that are added behind the others where the tokenizer lacks them.

    Attributes:
        folder: the folder.

    Raises:
        ValueError: a folder without a tokenizer, or with one of another kind of model.
    """

    def __init__(self, folder: str | os.PathLike, new: Iterable[str] = ()):
        import tokenizers  # with transformers seconds to import, and only judges need both
        import transformers

        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"{folder}: no such folder of a tokenizer")
        # of numbers that a small model's config cannot give: transformers takes Qwen's own for them
        about = logging.getLogger("transformers.configuration_utils")
        about.addFilter(_of_no_token)
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True
            )
            backend = self._tokenizer.backend_tokenizer
        except Exception as error:  # the library raises errors of any type
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{folder} holds no tokenizer that can be read: {reason}") from error
        finally:
            about.removeFilter(_of_no_token)
        absent = [name for name in new if backend.token_to_id(name) is None]
        self._tokenizer.add_tokens(absent, special_tokens=True)
        # a copy that nothing changes, so that threads may share it
        self._text = tokenizers.Tokenizer.from_str(backend.to_str())
        self._text.encode_special_tokens = True
        self._text.no_truncation()
        self._text.no_padding()
        # parts of a chat and questions come again with every clip
        self._known = functools.lru_cache(maxsize=4096)(self._encode)

    def __len__(self) -> int:
        return self._text.get_vocab_size(with_added_tokens=True)

    def text(self, text: str) -> list[int]:
        """Returns the tokens of a text; what looks like a special token is plain text too."""
        return list(self._known(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._text.encode(text, add_special_tokens=False).ids)

    def place(self, text: str, character: int) -> int:
        """Returns which of a text's tokens holds a character, both counted from 0."""
        encoded = self._text.encode(text, add_special_tokens=False)
        return int(encoded.char_to_token(character))

    def read(self, numbers: Iterable[int]) -> str:
        """Returns the text of tokens; special ones are left out."""
        return self._text.decode(list(numbers), skip_special_tokens=True)

    def special(self, name: str) -> int:
        """Returns the number of a special token.

        Raises:
            ValueError: the tokenizer has none of this name.
        """
        number = self._text.token_to_id(name)
        if number is None:
            raise ValueError(
                f"{self.folder}: the tokenizer has no token {name}: is it that of this model?"
            )
        return number

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the tokenizer, the new tokens too, as transformers reads it."""
        self._tokenizer.save_pretrained(folder)


def _of_no_token(record: logging.LogRecord) -> bool:
    return "within the vocabulary" not in record.getMessage()
