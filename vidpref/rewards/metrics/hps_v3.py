"""HPSv3: how well people would like frames for a prompt, added up."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from vidpref.interop.hps_v3 import TOKEN, HpsV3Folder, abstract_hps_v3
from vidpref.language import chat_tokens as chat
from vidpref.language.conversation import check_tokens, closing, opening
from vidpref.language.patches import Eye
from vidpref.language.reward_template import PROMPT
from vidpref.models.qwen_vl.inputs import Inputs
from vidpref.models.qwen_vl.packing import Room, Row, pack
from vidpref.rewards.metrics.measured import Measured
from vidpref.rewards.questions import shown_frames
from vidpref.storage.copies import here
from vidpref.text_files import read_text
from vidpref.training.sharding import (
    abstract_params,
    activation_rules,
    batch_sharding,
    filled_up,
    make_mesh,
    replicated,
)
from vidpref.typing import Array, Float, Int, PyTree, UInt8

_TOKENS = 128  # rows are padded to a multiple of it: prompts of many lengths share a program


class HpsV3Metric:
    """The mean of HPSv3's score, summed over frames.

    Args:
        folder: the model.
        template: see `read_template`.
        pixels: of a frame, least and most; HPSv3 has 200704 for both.
        frames: of a clip that are seen, evenly spaced; 0 for all.
        batch_size: frames at once, over all devices of the process.
        dtype: type of the computation.
    """

    def __init__(
        self,
        folder: HpsV3Folder,
        template: tuple[str, str],
        *,
        pixels: tuple[int, int],
        frames: int,
        batch_size: int,
        dtype: str,
    ):
        self._tokens, self._config, self._template = folder.tokens, folder.config, template
        check_tokens(folder.tokens, folder.config, (TOKEN,))
        self._eye = Eye.of(folder.config, images=pixels, videos=pixels)
        self._frames, self._mesh = frames, make_mesh({"fsdp": -1}, jax.local_devices())
        self._batch_size = filled_up(batch_size, self._mesh)
        module = folder.module(dtype)
        self._params = folder.load(module, abstract_params(abstract_hps_v3(module), self._mesh))

        def score(params: PyTree, rows: Inputs, at: Int[Array, " b"]) -> Float[Array, " b"]:
            with activation_rules(self._mesh):
                return module.apply({"params": params}, rows, at)[:, 0]

        self._run = jax.jit(score, out_shardings=replicated(self._mesh))

    def __call__(self, clips: UInt8[Array, "b t h w 3"], prompts: Sequence[str]) -> Measured:
        """Returns the sums; a clip whose prompt is empty, or does not fit, has none."""
        clips = np.asarray(clips)
        seen = shown_frames(clips.shape[1], self._frames or clips.shape[1])
        values, why = np.full(len(clips), np.nan, np.float32), {}
        rows: list[tuple[int, Row, int]] = []
        for i, (clip, prompt) in enumerate(zip(clips, prompts, strict=True)):
            if not prompt.strip():
                why[i] = "the prompt is empty: what the clip was made for is unknown"
                continue
            rows += [(i, *self._row(frame, prompt)) for frame in clip[seen]]
            values[i] = 0.0
        longest = max((len(row.tokens) for _, row, _ in rows), default=0)
        room = Room(-(-longest // _TOKENS) * _TOKENS)
        for start in range(0, len(rows), self._batch_size):
            part = rows[start : start + self._batch_size]
            full = part + part[:1] * (self._batch_size - len(part))
            packed = pack([row for _, row, _ in full], self._config, room)
            at = np.array([place for *_, place in full], np.int32)
            placed = jax.device_put((packed, at), batch_sharding(self._mesh))
            scores = np.asarray(self._run(self._params, *placed))
            np.add.at(values, [i for i, *_ in part], scores[: len(part)])
        return Measured(values, f"{len(seen)} frames", why)

    def _row(self, frame: UInt8[np.ndarray, "h w 3"], prompt: str) -> tuple[Row, int]:
        """The row of a frame, and the place of the token that is scored."""
        media, pixels = self._eye.image(frame)
        special, text = self._tokens.special, self._tokens.text
        before, after = (part.replace(PROMPT, prompt) for part in self._template)
        ids = [*opening(self._tokens, self._config), special(chat.VISION_START)]
        ids += [special(chat.IMAGE_PAD)] * media.tokens(self._config)
        ids += [special(chat.VISION_END), *text(before)]
        tokens = [*ids, special(TOKEN), *text(after), *closing(self._tokens)]
        return Row(np.array(tokens, np.int32), [media], [pixels]), len(ids)


def read_template(path: str) -> tuple[str, str]:
    """Returns what stands before and behind the token that is scored.

    Args:
        path: a text file with `PROMPT` and `TOKEN`, once each; a line break at its end counts, as
            HPSv3's own text ends in one.

    Raises:
        ValueError: no such file, or one without them.
    """
    file: Path = here(path)
    if not file.is_file():
        raise ValueError(f"config.reward.metrics.hps_v3.template={path!r}: no such file")
    text = read_text(file)
    if counts := [
        f"{name} {text.count(name)} times" for name in (PROMPT, TOKEN) if text.count(name) != 1
    ]:
        raise ValueError(f"{file}: the template has {', '.join(counts)}; wanted is each once")
    before, _, after = text.partition(TOKEN)
    return before, after
