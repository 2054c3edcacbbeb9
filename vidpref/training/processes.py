"""Work in chunks that all processes do together: who has which rows, and what is left to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vidpref.coordination.agreeing import gathered
from vidpref.typing import Array, PyTree


def unfinished(paths: Sequence[Path]) -> list[int]:
    """Returns the numbers of the chunks whose file any process lacks: every process redoes them.

    Args:
        paths: this process's file of every chunk.
    """
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    return sorted({number for numbers in gathered("unfinished", missing) for number in numbers})


def my_share(rows: Sequence[Any], batch_size: int, padded: bool = True) -> list[Any]:
    """Returns this process's rows of a batch; a smaller batch is filled with its last row.

    Args:
        rows: at most `batch_size`, of all processes.
        batch_size: divides over the processes.
        padded: whether the filling belongs to what is returned.
    """
    rows = list(rows)
    full = rows + [rows[-1]] * (batch_size - len(rows))
    share = batch_size // jax.process_count()
    start = share * jax.process_index()
    return full[start : start + share] if padded else rows[start : start + share]


def place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Returns global arrays of the rows that every process gives."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def local_rows(array: Array) -> np.ndarray:
    """Returns the rows of a global array that this process gave."""
    shards = [s for s in array.addressable_shards if s.replica_id == 0]
    shards.sort(key=lambda s: s.index[0].start or 0)
    return np.concatenate([np.asarray(s.data) for s in shards])
