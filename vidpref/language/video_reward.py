"""Videos and prompts as the rows that a reward model scores (VideoAlign 3.2)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vidpref.language import chat_tokens as chat
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.conversation import check_tokens, closing, opening
from vidpref.language.frame_choice import choose_frames, frames_per_second
from vidpref.language.patches import Eye
from vidpref.language.resizing import resize
from vidpref.language.reward_template import RewardTemplate
from vidpref.models.qwen_vl.configuration import QwenVLConfig, VisionConfig
from vidpref.models.qwen_vl.packing import Room, Row, pack
from vidpref.models.qwen_vl.reward import RewardInputs
from vidpref.typing import Array, Int, UInt8

_FITTING = Room()
POSITIONS = ("sequential", "mrope")


@dataclasses.dataclass(frozen=True)
class Viewing:
    """Which frames of a video are seen; see `choose_frames`."""

    rule: str = "videoreward"
    rate: float = 2.0
    least: int = 4
    most: int = 768

    def __post_init__(self):
        if not 2 <= self.least <= self.most:
            raise ValueError(
                f"{self.least} to {self.most} frames cannot be seen: give 2 <= least <= most"
            )


@dataclasses.dataclass(frozen=True)
class RewardRow:
    """A video with its question.

    Attributes:
        row: tokens and patches.
        at: place of the token that each dimension is read off [d].
    """

    row: Row
    at: Int[np.ndarray, " d"]


@dataclasses.dataclass(frozen=True)
class RewardReader:
    """Makes rows of videos and prompts.

    A row is a conversation as Qwen2-VL writes it: the system's line, the user's video and text, and
    the beginning of an answer.

    Attributes:
        config: the model's.
        tokens: its tokenizer, with the tokens of the template.
        template: what is asked.
        eye: how frames are brought to the model.
        viewing: which frames are seen.
        positions: "sequential" counts all tokens, features too, as VideoReward was trained;
            "mrope" gives features time, row and column, as Qwen2-VL was.
        most_tokens: of a row; a longer one is refused.

    Raises:
        ValueError: a tokenizer or a family of models that does not fit, or unknown positions.
    """

    config: QwenVLConfig
    tokens: ChatTokens
    template: RewardTemplate
    eye: Eye
    viewing: Viewing = Viewing()
    positions: str = "sequential"
    most_tokens: int = 4096

    def __post_init__(self):
        if self.positions not in POSITIONS:
            raise ValueError(
                f"positions={self.positions!r} are unknown; known are {', '.join(POSITIONS)}"
            )
        if self.config.family == "qwen3_vl":
            raise ValueError(
                "a reward model on qwen3_vl is not implemented, which writes the time of every "
                "frame; give a qwen2_vl or qwen2_5_vl model"
            )
        check_tokens(self.tokens, self.config, self.template.tokens)

    @property
    def vision(self) -> VisionConfig:
        """The sizes of the model's vision tower."""
        return self.config.vision

    @property
    def token_ids(self) -> list[int]:
        """Numbers of the template's tokens, in the order of the dimensions."""
        return [self.tokens.special(name) for name in self.template.tokens]

    def row(self, frames: UInt8[Array, "t h w c"], fps: float | int, prompt: str) -> RewardRow:
        """Returns the row of a video.

        Args:
            frames: all frames, in bytes.
            fps: frames a second of these frames.
            prompt: what the video was made for.

        Raises:
            ValueError: an empty prompt, a video of one frame or without a rate, frames that cannot
                be resized, or more tokens than there is room for.
        """
        if not prompt.strip():
            raise ValueError("the prompt is empty: what the video was made for must be known")
        shown, rate = self.shown(frames, fps)
        media, pixels = self.eye.video(shown, rate)
        before, after, marks = self._question(prompt)
        features = media.tokens(self.config)
        length = len(before) + features + len(after)
        if length > self.most_tokens:
            raise ValueError(
                f"the video takes {features} tokens ({len(shown)} frames of "
                f"{media.grid[1]}x{media.grid[2]} patches) and the text {length - features}, and "
                f"there is room for {self.most_tokens}: take fewer or smaller frames, or a shorter "
                "prompt"
            )
        tokens = np.array([*before, *[self.config.video_token_id] * features, *after], np.int32)
        at = np.array([len(before) + features + mark for mark in marks], np.int32)
        return RewardRow(Row(tokens, [media], [pixels]), at)

    def shown(
        self, frames: UInt8[Array, "t h w c"], fps: float | int
    ) -> tuple[UInt8[np.ndarray, "n h2 w2 c"], float]:
        """Returns the frames that are seen, in the size in which they are, and their rate.

        Of these the same are chosen again, in the same size.

        Raises:
            ValueError: as `row`, of the video.
        """
        chosen = choose_frames(
            len(frames),
            float(fps),
            self.viewing.rule,
            rate=self.viewing.rate,
            least=self.viewing.least,
            most=self.viewing.most,
        )
        seen = np.asarray(frames)[chosen]
        height, width = self.eye.videos.size(*seen.shape[:3])
        rate = frames_per_second(len(chosen), len(frames), float(fps))
        return resize(seen, height, width, self.eye.resizer), rate

    def seen(self, row: RewardRow) -> tuple[int, int, int]:
        """Returns frames, height and width in pixels of what is seen of a video.

        Args:
            row: its row; the last frame counts twice where their number is odd.
        """
        vision, (t, h, w) = self.config.vision, row.row.media[0].grid
        return t * vision.temporal_patch_size, h * vision.patch_size, w * vision.patch_size

    def room(self, frames: int, height: int, width: int, prompt: str) -> tuple[int, int, int]:
        """Returns tokens, frames of patches and patches of the row of a video as `shown` made it.

        Args:
            frames: their number.
            height: pixels.
            width: pixels.
            prompt: what the video was made for.
        """
        vision = self.config.vision
        pairs = -(-frames // vision.temporal_patch_size)
        patches = height * width // vision.patch_size**2
        before, after, _ = self._question(prompt)
        return len(before) + pairs * patches // vision.merged + len(after), pairs, patches

    def pack(self, rows: Sequence[RewardRow], room: Room = _FITTING) -> RewardInputs:
        """Returns rows as arrays of one size, padded on the right.

        Args:
            rows: at least one.
            room: size of the arrays.

        Raises:
            ValueError: see `packing.pack`.
        """
        after = None if self.positions == "sequential" else "max"
        pad = self.tokens.special(chat.END_OF_TEXT)
        inputs = pack([row.row for row in rows], self.config, room, after=after, pad=pad)
        return RewardInputs(inputs, np.stack([row.at for row in rows]))

    def _question(self, prompt: str) -> tuple[list[int], list[int], list[int]]:
        """Tokens before and after the video, and the places of the dimensions in the latter."""
        text, special = self.tokens.text, self.tokens.special
        before = [*opening(self.tokens, self.config), special(chat.VISION_START)]
        after, places = [special(chat.VISION_END)], {}
        for number, part in enumerate(self.template.parts(prompt)):
            if number % 2:
                places[part] = len(after)
                after.append(special(part))
            else:
                after += text(part)
        after += closing(self.tokens)
        if self.template.shared:
            return before, after, [len(after) - 1] * len(self.template.dimensions)
        return before, after, [places[token] for token in self.template.tokens]
