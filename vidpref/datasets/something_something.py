"""Something-Something-V2 in its own layout: labels, files, and the clips of evaluation prompts."""

import collections
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vidpref.datasets.prompts import Prompt
from vidpref.json_text import read_json

# Where the publisher's archives put things, newest first; the first that exists counts.
_LABELS = ("labels/{}.json", "something-something-v2-{}.json", "{}.json")
_VIDEOS = ("20bn-something-something-v2", "videos", "")


@dataclasses.dataclass(frozen=True)
class Label:
    """One entry of a labels file.

    Attributes:
        id: name of the video, "<id>.webm".
        text: the caption, e.g. "pushing a cup from left to right".
        template: its class, e.g. "Pushing something from left to right".
    """

    id: str
    text: str
    template: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the parts of a copy of the data set lie; `test` is None where it has none."""

    train: Path
    validation: Path
    test: Path | None
    videos: Path

    def video(self, video_id: str) -> Path:
        """The file of a video."""
        return self.videos / f"{video_id}.webm"


def find_layout(root: str | os.PathLike) -> Layout:
    """Finds labels and videos under the data set's folder.

    Raises:
        FileNotFoundError: no folder, or a part is missing; says where it was looked for.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder (config.data.path)")

    def labels(split: str) -> Path | None:
        return next((p for t in _LABELS if (p := root / t.format(split)).is_file()), None)

    train, validation = labels("train"), labels("validation")
    for split, found in (("train", train), ("validation", validation)):
        if found is None:
            tried = ", ".join(t.format(split) for t in _LABELS)
            raise FileNotFoundError(f"{root}: no {split} labels; looked for {tried}")
    for name in _VIDEOS:
        videos = root / name
        if videos.is_dir() and next(videos.glob("*.webm"), None):
            return Layout(train, validation, labels("test"), videos)
    tried = ", ".join(name or "." for name in _VIDEOS)
    raise FileNotFoundError(f"{root}: no folder with .webm files; looked in {tried}")


def load_labels(path: str | os.PathLike) -> list[Label]:
    """Reads a labels file: a JSON list of objects with id, label and template.

    Ids may be texts or whole numbers; spaces around texts do not count. Other fields, such as the
    placeholders, are not read.

    Raises:
        ValueError: all of `read_json`; no such list; an entry is no object, lacks a field, has
            another type there, an empty text, a label of several lines, or an id seen before. Names
            file and entry, from 0.
    """
    labels: dict[str, Label] = {}
    for where, entry in _entries(path):
        missing = [name for name in ("id", "label", "template") if entry.get(name) is None]
        if missing:
            raise ValueError(f"{where}: no {', '.join(missing)} in {_shown(entry)}")
        template = plain_template(_text(entry, "template", where))
        if not template:
            raise ValueError(f"{where}: template={entry['template']!r} is empty")
        label = Label(_id(entry, where), _text(entry, "label", where), template)
        if label.id in labels:
            raise ValueError(f"{where}: id {label.id} occurs twice")
        labels[label.id] = label
    return list(labels.values())


def load_ids(path: str | os.PathLike) -> set[str]:
    """Reads the ids of a file that may lack labels, as that of the test split does.

    Raises:
        ValueError: as `load_labels`, of ids alone; one may occur twice.
    """
    return {_id(entry, where) for where, entry in _entries(path)}


def _entries(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path}: not a list of labels but a {type(entries).__name__}")
    for number, entry in enumerate(entries):
        where = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: not an object with id, label, template but {_shown(entry)}")
        yield where, entry


def _id(entry: dict[str, Any], where: str) -> str:
    value = entry.get("id")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{where}: id={_shown(value)} is neither a text nor a whole number")
    name = str(value).strip()
    if not name or "/" in name:
        raise ValueError(f"{where}: id={value!r} is not the name of a video")
    return name


def _text(entry: dict[str, Any], name: str, where: str) -> str:
    value = entry[name]
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name}={_shown(value)} is not a text")
    text = value.strip()
    if not text:
        raise ValueError(f"{where}: {name}={value!r} is empty")
    if "\n" in text:
        raise ValueError(f"{where}: {name}={_shown(value)} has a line break; it is one line")
    return text


def _shown(value: Any) -> str:
    return repr(value)[:200]


def unknown_videos(layout: Layout, known: Iterable[str]) -> list[Path]:
    """Returns the video files whose id no labels file has."""
    known = set(known)
    return sorted(p for p in layout.videos.glob("*.webm") if p.stem not in known)


def plain_template(template: str) -> str:
    """Takes the brackets off: "Pushing [something] left" -> "Pushing something left"."""
    return template.replace("[", "").replace("]", "").strip()


def find_prompt_clips(
    prompts: Sequence[Prompt], labels: Sequence[Label]
) -> tuple[dict[str, str], list[Prompt]]:
    """Finds for each prompt a video whose label has the same words.

    Prompts of one text get different videos as long as there are any, in the order of ids.

    Returns:
        {prompt id: video id}, and the prompts without any video.
    """
    by_words: dict[tuple[str, ...], list[str]] = collections.defaultdict(list)
    for label in sorted(labels, key=lambda label: (len(label.id), label.id)):
        by_words[_words(label.text)].append(label.id)
    found, unmatched = {}, []
    taken: collections.Counter = collections.Counter()
    for prompt in prompts:
        words = _words(prompt.text)
        videos = by_words.get(words, [])
        if videos:
            found[prompt.id] = videos[taken[words] % len(videos)]
            taken[words] += 1
        else:
            unmatched.append(prompt)
    return found, unmatched


def _words(text: str) -> tuple[str, ...]:
    # The labels and the published prompts differ in spaces around punctuation and in case.
    return tuple(re.findall(r"\w+", text.lower()))
