"""Batches for training: infinite, shuffled anew every epoch, resumable to the batch, by grain."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import grain
import grain.experimental
import numpy as np

from vidpref.seeds import fold_seed

# A clip at paper scale is megabytes, so few batches wait, rather than grain's 500.
_READ = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
# "Endless": grain's own infinite length overflows when batched by one.
_EPOCHS = 2**30


@runtime_checkable
class Source(Protocol):
    """Random access to training rows: dicts of arrays and numbers of one shape each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


def training_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    beside: Source | None = None,
    shapes: np.ndarray | None = None,
    positions: Sequence[int] | np.ndarray | None = None,
) -> grain.DatasetIterator:
    """Returns an endless iterator of batches: dicts of arrays with the batch axis first.

    Every row comes once an epoch, in an order that depends on the seed and the epoch alone; a
    batch may reach over the end of an epoch, so a source smaller than a batch repeats in it. The
    global batch is the same for any number of processes, each of which reads its own rows of it.
    Batch n is a function of n: after `grain.experimental.set_next_index(iterator, n)` it is next.

    Args:
        source: the rows.
        batch_size: rows of the global batch.
        seed: seed of the order.
        beside: a second source of rows, in an order and an epoch of its own; every row of the batch
            gets one of them, and the batch has them under "real".
        shapes: a number a row; a batch has rows of one number only. Each number has an epoch of its
            own, and batches of all come in proportion to their rows.
        positions: rows of the global batch that this process reads, in ascending order; None for
            all.

    Raises:
        ValueError: a source is empty, or the batch has no such rows.
    """
    if len(source) == 0:
        raise ValueError("there is nothing to train on: the source has no rows")
    if beside is not None and len(beside) == 0:
        raise ValueError("there is nothing to mix in: the source of real clips has no rows")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be positive")
    part = np.arange(batch_size) if positions is None else np.asarray(positions)
    if not len(part) or part.min() < 0 or part.max() >= batch_size:
        raise ValueError(f"positions {part.tolist()}: there are {batch_size} rows, from 0")
    # Order and batching act on row numbers, which cost nothing; rows are read after the split.
    load = _Load(source, part)
    batches = _numbers(source, batch_size, seed, shapes).map(load)
    if beside is not None:
        others = _numbers(beside, batch_size, fold_seed(seed, "beside")).map(_Load(beside, part))
        length = min(len(batches), len(others))  # both endless for all purposes
        both = [half.slice(slice(0, length)) for half in (batches, others)]
        batches = grain.experimental.ZipMapDataset(both).map(_join)
    return iter(batches.to_iter_dataset(_READ))


def _numbers(
    source: Source, batch_size: int, seed: int, shapes: np.ndarray | None = None
) -> grain.MapDataset:
    """Batches of row numbers, each of one shape."""
    groups = [range(len(source))]
    if shapes is not None:
        groups = [np.flatnonzero(shapes == shape) for shape in np.unique(shapes)]
    batches = [
        grain.MapDataset.source(rows).seed(seed).shuffle().repeat(_EPOCHS).batch(batch_size)
        for rows in groups
    ]
    if len(batches) == 1:
        return batches[0]
    return grain.MapDataset.mix(batches, weights=[len(rows) for rows in groups])


def _join(batches: tuple[dict, dict]) -> dict[str, Any]:
    batch, real = batches
    return {**batch, "real": real}


class _Load:
    """Reads the rows of this process's part of a batch."""

    def __init__(self, source: Source, part: np.ndarray):
        self._source, self._part = source, part

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        rows = [self._source[int(number)] for number in numbers[self._part]]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
