"""Tables of scores as files: Parquet or CSV by their ending, and read back."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from vidpref.csv_text import read_csv
from vidpref.files import whole_file, write_table

SUFFIXES = (".parquet", ".csv")


def check_out(flag: str, path: Path) -> None:
    """Refuses a table that cannot be written, before anything is computed.

    Args:
        flag: what the user calls it.
        path: the file.

    Raises:
        ValueError: another ending, a folder of that name, or something else where its folder is.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{flag}={path}: wanted a file that ends in {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise ValueError(f"{flag}={path} is a folder")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise ValueError(f"{flag}={path} cannot be written: {nearest} is no folder")


def write(path: Path, table: pd.DataFrame) -> None:
    """Writes a table so that a reader sees all of it or nothing; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        write_table(path, table)
        return
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False)


def read(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Reads a table; an empty field of a column of numbers is nan.

    Args:
        path: the file.
        needed: columns that it must have.

    Raises:
        ValueError: no such file, another ending, damaged, no row, or a column is missing.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: wanted a table that ends in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".csv":
        columns, rows = read_csv(path, needed)
        table = pd.DataFrame([row for _, row in rows], columns=columns)
    else:
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: no Parquet file that can be read: {error}") from error
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table)}")
    if table.empty:
        raise ValueError(f"{path}: no row in it")
    return table
