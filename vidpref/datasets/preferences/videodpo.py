"""VideoDPO's folder: `metadata.json` lists clips, `pair.json` pairs of them.

    metadata.json: [{"basic": {"clip_path": ..., "clip_duration": 1.6, "score": 0.71},
                     "misc": {"frame_caption": [prompt]}}, ...]
    pair.json: [{"video1": 0, "video2": 1, "frame_caption": prompt, "label": 0,
                 "score": 0.52, "diff_score": 0.05}, ...]

video1 and video2 are positions in metadata.json, from 0. video1 is the winner: `label` is not read,
as their trainer does not read it (their writer puts winners first and may still write 1). A pair's
`score` is the product of the histogram probabilities of its clips' OmniScores, and `diff_score` the
winner's OmniScore less the loser's; a loss of theirs has the weight (0.72 / score)**alpha. All
scores are optional. Relative paths start at the folder.
Format: CIntellifusion/VideoDPO, data/video_data.py (TextVideoDPO), OmniScore/pair_prob.py and
OmniScore/metadata_pipe/dpo_metadata_from_prompts.py.
"""

import math
from pathlib import Path
from typing import Any

from vidpref.datasets.preferences.collecting import Collector, number
from vidpref.datasets.preferences.frames import Preferences
from vidpref.json_text import read_json
from vidpref.storage.copies import bring_named

DIMENSION = "omniscore"
JUDGE = "OmniScore"


def read_videodpo(path: Path) -> Preferences:
    """Reads the folder, or a file of pairs with metadata.json beside it.

    The pair's numbers become `pair_score` and `score_gap` of its comparison, the clips' scores
    become scores.

    Raises:
        ValueError: a missing or broken file, a missing field, a position that is none, a prompt
            other than the clip's, and all of `Collector`. Names file and entry.
    """
    folder, pairs = (path, path / "pair.json") if path.is_dir() else (path.parent, path)
    metadata = folder / "metadata.json"
    bring_named([folder / "metadata.json"])
    collector = Collector(folder)
    paths, ids = [], []
    for place, entry in enumerate(_entries(metadata)):
        where = f"{metadata}, entry {place}"
        basic = _field(entry, "basic", dict, where)
        paths.append(_field(basic, "clip_path", str, where))
        prompt = _caption(_field(entry, "misc", dict, where), where)
        ids.append(collector.clip(where, paths[-1], prompt))
        if "score" in basic:
            score = number(basic["score"], where, "score")
            collector.score(where, ids[-1], DIMENSION, score, judge=JUDGE)
    for place, pair in enumerate(_entries(pairs)):
        where = f"{pairs}, entry {place}"
        winner, loser = (_place(pair, name, len(ids), where) for name in ("video1", "video2"))
        for clip in (winner, loser):
            collector.clip(where, paths[clip], _caption(pair, where))
        collector.compare(
            where,
            ids[winner],
            ids[loser],
            DIMENSION,
            "A",
            judge=JUDGE,
            pair_score=_optional(pair, "score", where),
            score_gap=_optional(pair, "diff_score", where),
        )
    return collector.preferences(pairs)


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: not a list of objects")
    return entries


def _field(entry: dict[str, Any], name: str, kind: type, where: str) -> Any:
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        shown = repr(entry.get(name, "missing"))[:80]
        raise ValueError(f"{where}: {name} must be a {kind.__name__}, it is {shown}")
    return value


def _caption(entry: dict[str, Any], where: str) -> str:
    caption = entry.get("frame_caption")
    if isinstance(caption, list) and caption:
        caption = caption[0]
    return _field({"frame_caption": caption}, "frame_caption", str, where)


def _place(pair: dict[str, Any], name: str, count: int, where: str) -> int:
    place = _field(pair, name, int, where)
    if not 0 <= place < count:
        raise ValueError(f"{where}: {name}={place} is no position among {count} clips")
    return place


def _optional(pair: dict[str, Any], name: str, where: str) -> float:
    return number(pair[name], where, name) if name in pair else math.nan
