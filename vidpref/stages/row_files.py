"""Files named by the rows that they hold, such as `clips-0000008-0000016.array_record`.

So many processes share a stage's work, and a stage that was stopped goes on with another number of
them: whoever wrote a file, its rows are there.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from vidpref.coordination.agreeing import decided, first_host, gathered
from vidpref.storage import mirror
from vidpref.typing import Bool


@dataclasses.dataclass(frozen=True)
class RowFiles:
    """The files of one kind in a folder.

    Attributes:
        folder: where they lie.
        kind: the beginning of their names.
        suffix: the end of their names.
        total: rows of all files together.
    """

    folder: Path
    kind: str
    suffix: str
    total: int

    def path(self, rows: range) -> Path:
        """Returns where the rows are."""
        return self.folder / f"{self.kind}-{rows.start:07d}-{rows.stop:07d}{self.suffix}"

    def there(
        self, holds: Callable[[range], bool] = lambda rows: True, *, apart: bool = True
    ) -> list[range]:
        """Returns the rows of each file that is there, in ascending order.

        The first process looks, and tells the others, whose file systems may still remember what
        was there before.

        Args:
            holds: whether a file holds what it should; others count as missing.
            apart: leave out files with rows that another one has too.
        """
        found = decided(f"{self.kind} that are there", lambda: self._look(holds, apart))
        return [range(start, stop) for start, stop in found]

    def missing(self, there: Iterable[range]) -> Bool[np.ndarray, " n"]:
        """Returns which rows are in none of the files."""
        missing = np.ones(self.total, bool)
        for rows in there:
            missing[rows.start : rows.stop] = False
        return missing

    def complete(self, there: Iterable[range], written: Iterable[range]) -> list[range]:
        """Waits for all processes; returns the rows of each file, which together are all rows.

        Args:
            there: what was there before.
            written: what this process wrote since.

        Raises:
            RuntimeError: a row is missing or there twice, which is a defect of ours.
        """
        mine = [(rows.start, rows.stop) for rows in written]
        new = [range(*pair) for pairs in gathered(f"{self.kind} written", mine) for pair in pairs]
        files = sorted([*there, *new], key=lambda rows: rows.start)
        ends = [0, *(rows.stop for rows in files)]
        if [*(rows.start for rows in files), self.total] != ends:
            raise RuntimeError(f"{self.folder}: {self.kind} of rows {files}, not of 0 to {ends}")
        if first_host():  # which reads what others wrote
            mirror.pull(self.folder)
        return files

    def remove_others(self, files: Sequence[range]) -> None:
        """Removes files of this kind that are not among `files`; for one process."""
        wanted = {self.path(rows).name for rows in files}
        for name in mirror.files(self.folder):
            of_kind = name.startswith(f"{self.kind}-") and name.endswith(self.suffix)
            if of_kind and name not in wanted:
                mirror.remove(self.folder / name)

    def _look(self, holds: Callable[[range], bool], apart: bool) -> list[tuple[int, int]]:
        name = re.compile(rf"{self.kind}-(\d+)-(\d+){re.escape(self.suffix)}")
        matches = filter(None, map(name.fullmatch, mirror.files(self.folder)))
        found = sorted((int(match[1]), -int(match[2])) for match in matches)
        kept, end = [], 0
        for start, stop in ((start, -stop) for start, stop in found):
            free = start >= end or not apart
            if free and start < stop <= self.total and holds(range(start, stop)):
                kept.append((start, stop))
                end = stop
        return kept


def ranges(numbers: Iterable[int]) -> list[range]:
    """Returns ascending numbers as ranges, as few as there can be."""
    found: list[range] = []
    for number in numbers:
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found
