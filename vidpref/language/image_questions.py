"""Frames with a question as rows that a Qwen-VL model answers, and the words that it may say."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vidpref.language import chat_tokens as chat
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.conversation import check_tokens, closing, opening
from vidpref.language.patches import Eye
from vidpref.language.sampling import Sampling
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.inputs import Inputs
from vidpref.models.qwen_vl.packing import Room, Row, pack
from vidpref.models.qwen_vl.positions import Media
from vidpref.typing import Array, Bool, Float, Int, UInt8

Seen = tuple[
    Media, Float[np.ndarray, "_ _ d"]
]  # an image or video: its place in a row, and its patches
_NEVER_SAID = (chat.IM_START, chat.VISION_START, chat.VISION_END, chat.IMAGE_PAD, chat.VIDEO_PAD)


@dataclasses.dataclass(frozen=True)
class ImageQuestions:
    """Makes rows of images and a question: what the family's chat template gives of them.

    Attributes:
        config: the model's.
        tokens: its tokenizer.
        eye: how images are brought to the model.
        most_tokens: of a row; a longer one is refused.
        fps: frames a second of images that are seen as one video; 0: each is seen alone.

    Raises:
        ValueError: a tokenizer that is not the model's, or videos of Qwen3-VL, among whose frames
            their times are written.
    """

    config: QwenVLConfig
    tokens: ChatTokens
    eye: Eye
    most_tokens: int = 8192
    fps: float = 0.0

    def __post_init__(self):
        check_tokens(self.tokens, self.config)
        if self.fps and self.config.family == "qwen3_vl":
            raise ValueError(
                "config.reward.vlm_judge.video_fps: a Qwen3-VL is shown images here, no video; "
                "set it to 0"
            )

    def see(self, images: UInt8[Array, "k h w c"]) -> list[Seen]:
        """Returns what images of one size, in bytes, are to the model.

        Raises:
            ValueError: images that cannot be resized.
        """
        if self.fps:
            return [self.eye.video(np.asarray(images), self.fps)]
        return [self.eye.image(np.asarray(image)) for image in images]

    def row(self, seen: Sequence[Seen], text: str) -> Row:
        """Returns the row of a question about images, which stand before it.

        Args:
            seen: the images or videos, in order.
            text: the question; what looks like a special token in it is plain text.

        Raises:
            ValueError: more tokens than there is room for.
        """
        special = self.tokens.special
        ids, features = opening(self.tokens, self.config), 0
        for media, _ in seen:
            count = media.tokens(self.config)
            pad = chat.VIDEO_PAD if media.is_video else chat.IMAGE_PAD
            ids += [special(chat.VISION_START), *[special(pad)] * count]
            ids.append(special(chat.VISION_END))
            features += count
        ids += [*self.tokens.text(text), *closing(self.tokens)]
        if len(ids) > self.most_tokens:
            raise ValueError(
                f"{len(seen)} images or videos take {features} tokens and the text "
                f"{len(ids) - features}, and there is room for {self.most_tokens}: show fewer or "
                "smaller frames, or give a shorter prompt"
            )
        return Row(np.array(ids, np.int32), [m for m, _ in seen], [pixels for _, pixels in seen])

    def answered(
        self, asked: Row, *said: str, every: bool = False
    ) -> tuple[Row, Bool[np.ndarray, " n"]]:
        """Returns the row of a conversation, and which of its last n tokens are answers.

        The model's end of its turn is one of an answer's tokens, and the first of the n is one.

        Args:
            asked: result of `row`.
            *said: the answer; or an answer, what is asked next, the answer to that, and so on.
                What looks like a special token in them is plain text.
            every: whether all answers count, and not the last alone.
        """
        ids: list[int] = []
        learnt: list[bool] = []
        for number, text in enumerate(said):
            if number % 2:
                own = self.next_question(text).tolist()
            else:
                own = [*self.tokens.text(text), self.tokens.special(chat.IM_END)]
            counts = not number % 2 and (every or number == len(said) - 1)
            ids += own
            learnt += [counts] * len(own)
        tokens = np.concatenate([asked.tokens, np.array(ids, np.int32)])
        return dataclasses.replace(asked, tokens=tokens), np.array(learnt[learnt.index(True) :])

    def next_question(self, text: str) -> Int[np.ndarray, " m"]:
        """Returns the tokens of a question behind the end of an answer."""
        special, plain = self.tokens.special, self.tokens.text
        ids = [*plain("\n"), special(chat.IM_START), *plain("user\n"), *plain(text)]
        return np.array([*ids, *closing(self.tokens)], np.int32)

    def pack(self, rows: Sequence[Row], room: Room) -> Inputs:
        """Returns rows as arrays of one size, padded on the left, where answers go on."""
        pad = self.tokens.special(chat.END_OF_TEXT)
        return pack(rows, self.config, room, left=True, pad=pad)

    def rule(self, length: int, temperature: float) -> Sampling:
        """Returns the rule by which answers of at most `length` tokens are drawn."""
        special = self.tokens.special
        ends = (special(chat.IM_END), special(chat.END_OF_TEXT))
        forbidden = tuple(special(name) for name in _NEVER_SAID)
        pad = special(chat.END_OF_TEXT)
        return Sampling(length, ends, temperature=temperature, forbidden=forbidden, pad=pad)


def first_tokens(tokens: ChatTokens, words: Iterable[str]) -> Mapping[str, list[int]]:
    """Returns the tokens that an answer of each word may begin with.

    A word may stand with a space in front or not, as it is, in small or in large letters. A token
    with which several of the words may begin tells nothing, and is left out.

    Args:
        tokens: of the model.
        words: the words.

    Raises:
        ValueError: a word is left without a token.
    """
    begins = {}
    for word in words:
        spelt = (word, word.lower(), word.upper())
        begins[word] = {tokens.text(f"{space}{w}")[0] for w in spelt for space in ("", " ")}
    found = {}
    for word, own in begins.items():
        others = set().union(*(ids for name, ids in begins.items() if name != word))
        found[word] = sorted(own - others)
        if not found[word]:
            raise ValueError(
                f"the tokenizer begins {word!r} as another of {', '.join(begins)}: their "
                "probabilities cannot be told apart by the first token"
            )
    return found
