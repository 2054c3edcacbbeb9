"""CSV that users bring, read strictly: a row that does not fit its header is refused by line."""

import csv
import difflib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from vidpref.text_files import read_text

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_MISSPELT = 0.8  # likeness from which a column is one of the known, misspelt


def read_csv(
    path: str | os.PathLike,
    needed: Sequence[str | tuple[str, ...]],
    optional: Sequence[str] = (),
) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Reads a UTF-8 file whose first line names the columns, with commas between.

    Spaces around names and after commas do not count, empty lines neither, nor columns without a
    name if all their fields are empty (spreadsheets write such). Columns of other names are left to
    the caller.

    Args:
        path: the file.
        needed: columns that must be there; of a tuple, at least one.
        optional: further columns that are known: a name much like them is taken for a mistake.

    Returns:
        The columns, and for each row where it stands ("pairs.csv, line 3") and its fields.

    Raises:
        ValueError: all of `read_text`; a column that is missing, stands twice or is misspelt; other
            separators than commas; a row of more or fewer fields than the header has; a quote that
            is never closed or stands where none may. Names file and line.
    """
    found = _lines(path)
    _, header = next(found, (1, []))
    header = [name.strip() for name in header]
    _check_columns(path, header, needed, optional)
    rows = []
    for line, fields in found:
        where = f"{os.fspath(path)}, line {line}"
        if len(fields) != len(header):
            hint = (
                "a text with a comma needs quotes around it"
                if len(fields) > len(header)
                else "an empty field needs its comma too"
            )
            raise ValueError(
                f"{where}: {len(fields)} fields, but the header has {len(header)}; {hint}"
            )
        for name, field in zip(header, fields, strict=True):
            if not name and field.strip():
                raise ValueError(
                    f"{where}: {field!r} stands in a column without a name; a text with a comma "
                    "needs quotes around it"
                )
        row = {name: field for name, field in zip(header, fields, strict=True) if name}
        rows.append((where, row))
    return [name for name in header if name], rows


def _lines(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    """Number of the line where a row begins, and its fields; of the rows that are not empty."""
    reader = csv.reader(io.StringIO(read_text(path)), strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            what = f"not CSV: {error}"
            if "end of data" in str(error) or "field limit" in str(error):
                what = "a quote is opened and never closed"
            raise ValueError(
                f"{os.fspath(path)}, line {line}: {what}; quotes stand around a whole field, and "
                'those within it are doubled: "the ""red"" ball, rolling"'
            ) from None
        if fields is None:
            return
        if fields:
            yield line, fields


def _check_columns(
    path: str | os.PathLike,
    columns: list[str],
    needed: Sequence[str | tuple[str, ...]],
    optional: Sequence[str],
) -> None:
    path, present = os.fspath(path), [name for name in columns if name]
    repeated = [name for name, count in Counter(present).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: the column {repeated[0]!r} stands twice; remove one")
    choices = [(name,) if isinstance(name, str) else name for name in needed]
    missing = [" or ".join(names) for names in choices if not set(names) & set(present)]
    if missing:
        for mark, name in _SEPARATORS.items():
            if len(columns) == 1 and mark in columns[0]:
                raise ValueError(
                    f"{path}: the columns have {name} between them; save it with commas"
                )
        raise ValueError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(present) or 'none'}"
        )
    known = [name for names in choices for name in names] + list(optional)
    absent = {name.lower(): name for name in known if name not in present}
    for name in present:
        if name in known:
            continue
        near = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=_MISSPELT)
        if near:
            raise ValueError(
                f"{path}: unknown column {name!r} (did you mean {absent[near[0]]}?); rename it"
            )
