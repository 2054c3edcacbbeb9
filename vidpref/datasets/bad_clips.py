"""Clips that could not be used: each one named, counted by reason, too many stop the work."""

import csv
import os
from collections import Counter
from pathlib import Path

from vidpref.datasets.clip_errors import ClipError
from vidpref.files import whole_file

_SHOWN = 20  # rows of the printed table; the CSV file has all


class TooManyBadClips(ValueError):
    """More clips are bad than `max_bad_fraction` allows."""


class BadClips:
    """Collects bad clips; a path counts once."""

    def __init__(self):
        self._rows: dict[str, tuple[str, str]] = {}

    def add(self, error: ClipError) -> None:
        """Notes the clip of a `ClipError`."""
        self.note(error.path, error.reason, error.detail)

    def note(self, path: str | os.PathLike, reason: str, detail: str) -> None:
        """Notes a clip by name, for reasons other than decoding."""
        self._rows.setdefault(os.fspath(path), (reason, detail))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Every bad clip as (path, reason, detail), in the order of finding."""
        return [(path, *rest) for path, rest in self._rows.items()]

    def counts(self) -> dict[str, int]:
        """Bad clips by reason, most frequent first."""
        return dict(Counter(reason for reason, _ in self._rows.values()).most_common())

    def table(self) -> str:
        """A few lines for people: counts by reason, then clips by name."""
        lines = [f"{count:6d}  {reason}" for reason, count in self.counts().items()]
        rows = self.rows
        lines += [f"  {path}: {reason}: {detail}" for path, reason, detail in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            lines.append(f"  ... and {len(rows) - _SHOWN} more")
        return "\n".join(lines)

    def write(self, path: str | os.PathLike) -> None:
        """Writes every bad clip to a CSV file with the columns path, reason and detail."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            whole_file(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(("path", "reason", "detail"))
            writer.writerows(self.rows)

    def write_left_out(self, folder: Path) -> list[Path]:
        """Writes left_out.csv where there are bad clips, and removes an older one where not.

        Returns the paths of what was written.
        """
        path = folder / "left_out.csv"
        path.unlink(missing_ok=True)
        if not self.rows:
            return []
        self.write(path)
        return [path]

    def check(self, total: int, max_bad_fraction: float, where: str | os.PathLike = "") -> None:
        """Refuses to go on where too many are bad.

        Args:
            total: clips looked at, bad ones included.
            max_bad_fraction: fraction of the total that may be bad.
            where: file of the whole table, named in the message.

        Raises:
            TooManyBadClips: with the table.
        """
        if len(self) > max_bad_fraction * total:
            more = f"; all are listed in {os.fspath(where)}" if where else ""
            raise TooManyBadClips(
                f"{len(self)} of {total} clips are bad, max_bad_fraction={max_bad_fraction:g} "
                f"allows {int(max_bad_fraction * total)}{more}:\n{self.table()}\n"
                "Repair or remove them, or raise config.data.max_bad_fraction."
            )
