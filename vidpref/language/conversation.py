"""What stands around a question to a Qwen-VL model, and whether a tokenizer is the model's."""

from collections.abc import Iterable

from vidpref.language import chat_tokens as chat
from vidpref.language.chat_tokens import ChatTokens
from vidpref.models.qwen_vl.configuration import QwenVLConfig

_SYSTEM = "system\nYou are a helpful assistant."  # of Qwen2-VL, before every conversation
FRAMES = (_SYSTEM, "user\n", "assistant\n")  # the plain text of every conversation


def opening(tokens: ChatTokens, config: QwenVLConfig) -> list[int]:
    """Returns the tokens before what the user shows: the system's line, where the family has one,
    and the beginning of the user's turn.
    """
    text, special = tokens.text, tokens.special
    start, end = special(chat.IM_START), special(chat.IM_END)
    user = [start, *text("user\n")]
    if config.family == "qwen3_vl":
        return user
    return [start, *text(_SYSTEM), end, *text("\n"), *user]


def closing(tokens: ChatTokens) -> list[int]:
    """Returns the tokens behind a question: the user's end, and the beginning of an answer."""
    text, special = tokens.text, tokens.special
    return [special(chat.IM_END), *text("\n"), special(chat.IM_START), *text("assistant\n")]


def check_tokens(tokens: ChatTokens, config: QwenVLConfig, more: Iterable[str] = ()) -> None:
    """Refuses a tokenizer that is not the model's.

    Args:
        tokens: the tokenizer.
        config: the model's.
        more: special tokens that the model must have besides those of every Qwen-VL model.

    Raises:
        ValueError: a special token that the tokenizer lacks or the embedding has no row for, or
            other numbers of images and videos than in config.json.
    """
    rows = config.text.vocab_size
    names = (*chat.SPECIAL, *more)
    beyond = [name for name in names if tokens.special(name) >= rows]
    pads = tokens.special(chat.IMAGE_PAD), tokens.special(chat.VIDEO_PAD)
    if beyond or pads != (config.image_token_id, config.video_token_id):
        problem = (
            f"{beyond[0]} has the number {tokens.special(beyond[0])}, and there are "
            f"{rows} embeddings"
            if beyond
            else f"images and videos have the tokens {pads}, and in config.json "
            f"{(config.image_token_id, config.video_token_id)}"
        )
        raise ValueError(f"{tokens.folder}: the tokenizer is not that of the model: {problem}")
