"""The tokenizers of T5 and UMT5 from the folders of pipelines, as transformers reads them."""

import json
from pathlib import Path
from typing import Any

from vidpref.downloads import refuse_stand_in
from vidpref.interop.json_fields import read_fields

TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer_config.json")
_WHOLE, _PIECES, _CONFIG = TOKENIZER_FILES
_BESIDE = ("special_tokens_map.json", "added_tokens.json")
_MOST_EXTRA = 10**4  # T5 has 100, UMT5 300; transformers makes a token of each
_CLASS = "T5TokenizerFast"  # of every published pipeline, also of UMT5


def read_tokenizer(folder: Path) -> Any:
    """Returns the tokenizer of a folder.

    Its class is that of `tokenizer_config.json`, else that of the pipeline's `model_index.json`,
    else T5's; so `tokenizer.json` or `spiece.model` is enough.

    Raises:
        ValueError: no tokenizer that can be read, or one that pads on the left.
    """
    if fault := tokenizer_fault(folder):
        raise ValueError(fault)
    import transformers  # takes seconds, and only T5 needs it

    own = _class_of(read_fields(folder / _CONFIG) if (folder / _CONFIG).exists() else {})
    name = "AutoTokenizer" if hasattr(transformers, own) else _class_in_pipeline(folder)
    kind = getattr(transformers, name, None)
    if kind is None:
        raise ValueError(f"{folder}: transformers has no tokenizer {name!r}")
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
        tokenizer([""], padding="max_length", max_length=2, truncation=True)
    except Exception as error:  # the libraries raise bare Exceptions and errors of any type
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{folder} holds no tokenizer that can be read: {reason}") from error
    if tokenizer.padding_side != "right":
        raise ValueError(f"{folder}: the tokenizer pads on the left, T5's on the right")
    return tokenizer


def tokenizer_fault(folder: Path) -> str:
    """Returns which file of a tokenizer cannot be read and why; "" if all can."""
    if not any((folder / name).exists() for name in (_WHOLE, _PIECES)):
        return f"{folder} holds neither {_WHOLE} nor {_PIECES}: is the download complete?"
    try:
        for name in (_CONFIG, *_BESIDE):
            if (folder / name).exists():
                _check_fields(folder / name)
        if (folder / _WHOLE).exists():
            _check_json(folder / _WHOLE)
        elif (folder / _PIECES).exists():
            _check_pieces(folder / _PIECES)
    except ValueError as error:
        return str(error)
    return ""


def _check_fields(path: Path) -> None:
    extra = read_fields(path).get("extra_ids", 0)
    if not isinstance(extra, int) or not 0 <= extra <= _MOST_EXTRA:
        raise ValueError(f"{path}: extra_ids={extra!r} must be from 0 to {_MOST_EXTRA}")


def _check_json(path: Path) -> None:
    refuse_stand_in(path)
    try:
        fields = json.loads(path.read_bytes())  # its tokens may be texts that `read_json` refuses
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("model"), dict):
        raise ValueError(f"{path} is no tokenizer: it has no field model")


def _check_pieces(path: Path) -> None:
    import sentencepiece  # as transformers does for such a file

    refuse_stand_in(path)
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no model of sentencepiece") from error
    if not pieces.get_piece_size():
        raise ValueError(f"{path} holds no pieces")


def _class_of(config: dict[str, Any]) -> str:
    name = config.get("tokenizer_class")
    return name if isinstance(name, str) else ""


def _class_in_pipeline(folder: Path) -> str:
    index = folder.parent / "model_index.json"
    entry = read_fields(index).get(folder.name) if index.exists() else None
    named = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
    return entry[1] if named else _CLASS
