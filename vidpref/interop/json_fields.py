"""The JSON files of a model's folders: config.json, model_index.json and the like."""

import os
from typing import Any

from vidpref.downloads import refuse_stand_in
from vidpref.json_text import read_json


def read_fields(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the fields of a JSON file that holds one object.

    Raises:
        ValueError: what `refuse_stand_in` and `read_json` refuse, and a file of no fields; names
            the file.
    """
    refuse_stand_in(path)
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: holds no fields, but {str(fields)[:40]!r}")
    return fields
