"""What the readers of all layouts share: checking what enters `Preferences`."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd

from vidpref.coordination.agreeing import first_host
from vidpref.datasets.preferences.frames import CLIPS, COMPARISONS, SCORES, VERDICTS, Preferences
from vidpref.storage.addresses import is_address
from vidpref.storage.copies import address, bring_named, path_of

_NAMED = 3  # missing clips in a message


def number(value: Any, where: str, name: str) -> float:
    """Returns a number of a JSON file.

    Raises:
        ValueError: it is none, or not finite.
    """
    found = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{where}: {name}={repr(value)[:80]} is not a finite number")
    return found


class Collector:
    """Gathers a data set's clips, comparisons and scores; `where` is file and line for errors.

    Args:
        root: folder that paths of clips are relative to; a list may name clips in gs:// too.
    """

    def __init__(self, root: Path):
        self._root = os.path.abspath(root)
        self._in_bucket = is_address(address(self._root))
        self._clips: dict[str, dict[str, Any]] = {}
        self._comparisons: list[dict[str, Any]] = []
        self._scores: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._verdicts: dict[tuple[str, ...], tuple[str, str]] = {}

    def clip(
        self,
        where: str,
        path: str,
        prompt: str,
        *,
        source: str = "",
        fps: float = math.nan,
        frames: float = math.nan,
    ) -> str:
        """Adds a clip, once however often it is named, and returns its id.

        Line breaks in the prompt become spaces: a prompt is one line for the text cache.

        Raises:
            ValueError: no path, no prompt, or something else about a clip that was named before.
        """
        prompt = " ".join(part for line in prompt.splitlines() if (part := line.strip()))
        if not prompt:
            raise ValueError(f"{where}: the prompt is empty")
        if not path.strip():
            raise ValueError(f"{where}: the path of a clip is empty")
        file = path_of(path.strip()) if is_address(path.strip()) else path.strip()
        full = os.path.normpath(os.path.join(self._root, file))
        called = address(full)
        inside = os.path.commonpath([full, self._root]) == self._root
        if inside and is_address(called) == self._in_bucket:
            called = os.path.relpath(full, self._root)
        name = called if is_address(called) else Path(called).as_posix()
        stated = {"prompt": prompt, "source": source, "fps": fps, "frames": frames}
        stated = {key: value for key, value in stated.items() if value and value == value}
        known = self._clips.setdefault(name, {"id": name, "path": full, "where": where})
        for key, value in stated.items():
            if known.setdefault(key, value) != value:
                raise ValueError(
                    f"{where}: clip {name} has {key} {value!r}, but {known[key]!r} before (first "
                    f"named in {known['where']}); a clip has one"
                )
        return name

    def compare(
        self,
        where: str,
        clip_a: str,
        clip_b: str,
        dimension: str,
        verdict: str,
        *,
        judge: str = "",
        rationale: str = "",
        pair_score: float = math.nan,
        score_gap: float = math.nan,
    ) -> None:
        """Adds a verdict about two clips, given by their ids.

        Raises:
            ValueError: an unknown verdict, a dimension without a name, one clip twice, clips of two
                prompts, or another verdict than the same judge gave this pair before.
        """
        _check_dimension(dimension, where)
        if verdict not in VERDICTS:
            raise ValueError(
                f"{where}: unknown verdict {verdict!r} in {dimension}; known: {', '.join(VERDICTS)}"
            )
        if clip_a == clip_b:
            raise ValueError(f"{where}: {clip_a} is compared with itself")
        prompt, other = self._clips[clip_a]["prompt"], self._clips[clip_b]["prompt"]
        if prompt != other:
            raise ValueError(
                f"{where}: {clip_a} was made for {prompt!r}, {clip_b} for {other!r}; only clips of "
                "one prompt can be compared"
            )
        first, second = sorted((clip_a, clip_b))
        winner = {"A": clip_a, "B": clip_b}.get(verdict, verdict)
        key = (first, second, dimension, judge)
        before, earlier = self._verdicts.setdefault(key, (winner, where))
        if before != winner:
            raise ValueError(
                f"{where}: {winner} is the verdict on {first} and {second} in {dimension}, but "
                f"{before} in {earlier}; remove one, or name two judges"
            )
        self._comparisons.append(
            {
                "clip_a": clip_a,
                "clip_b": clip_b,
                "prompt": prompt,
                "dimension": dimension,
                "verdict": verdict,
                "judge": judge,
                "rationale": rationale,
                "pair_score": pair_score,
                "score_gap": score_gap,
            }
        )

    def score(
        self,
        where: str,
        clip: str,
        dimension: str,
        value: float,
        *,
        judge: str = "",
        rationale: str = "",
    ) -> None:
        """Adds the score of a clip, once however often it is stated.

        Raises:
            ValueError: a dimension without a name, or another score than the same judge gave this
                clip before.
        """
        _check_dimension(dimension, where)
        row = {
            "clip": clip,
            "dimension": dimension,
            "score": value,
            "judge": judge,
            "rationale": rationale,
        }
        before = self._scores.setdefault((clip, dimension, judge), row)["score"]
        if before != value:
            raise ValueError(
                f"{where}: {clip} has the score {value:g} in {dimension}, but {before:g} before; "
                "remove one, or name two judges"
            )

    def clips(self, *, bring: bool = True) -> pd.DataFrame:
        """Returns the clips added, as `Preferences` has them, whether their files exist or not.

        Args:
            bring: whether those in a bucket are brought.
        """
        if bring:
            bring_named(clip["path"] for clip in self._clips.values())
        clips = [{"source": "", **clip} for clip in self._clips.values()]
        return pd.DataFrame(clips, columns=list(CLIPS)).astype(CLIPS)

    def preferences(self, where: Path, *, must_exist: bool = True) -> Preferences:
        """Returns everything added, once all clips are known to exist.

        Of many hosts, the first brings what lies in a bucket, and looks: the others bring the clips
        that they read themselves (`bring_named`), which are a part of them.

        Args:
            where: the file, for messages.
            must_exist: whether to refuse clips whose files do not exist.

        Raises:
            ValueError: nothing was added, or clips do not exist.
        """
        if not self._comparisons and not self._scores:
            raise ValueError(f"{where}: no comparison and no score in it")
        clips = self.clips(bring=first_host())
        missing = [
            clip
            for clip in self._clips.values()
            if must_exist and not (_left_there(clip["path"]) or os.path.isfile(clip["path"]))
        ]
        if missing:
            named = "; ".join(f"{clip['path']} ({clip['where']})" for clip in missing[:_NAMED])
            raise ValueError(
                f"{where}: {len(missing)} of {len(self._clips)} clips do not exist, the first are "
                f"{named}. Put them there, or mend the paths, which are relative to {self._root}"
            )
        return Preferences(
            clips=clips,
            comparisons=pd.DataFrame(self._comparisons, columns=list(COMPARISONS)).astype(
                COMPARISONS
            ),
            scores=pd.DataFrame(list(self._scores.values()), columns=list(SCORES)).astype(SCORES),
        )


def _left_there(path: str) -> bool:
    """Whether a clip lies in a bucket, and host 0 alone knows whether it is there."""
    return not first_host() and is_address(address(path))


def _check_dimension(name: str, where: str) -> None:
    if not name.strip():
        raise ValueError(f"{where}: a dimension has no name")
