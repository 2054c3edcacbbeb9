"""Which rows of a batch a process feeds and which it answers for, as the sharding says."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from vidpref.typing import Array, Int, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Share:
    """The rows of a batch that a process has to do with, by number, in ascending order.

    Where an axis of the mesh other than data and fsdp reaches over processes, several hold the same
    rows; the first of them owns them. Every row has one owner.

    Attributes:
        sharding: of the batch; its first axis alone is divided.
        size: rows of the whole batch.
        owners: the process that owns each row.
        held: rows on devices of this process, which it feeds.
        owned: rows that it answers for, as it writes them to files: a part of `held`.
    """

    sharding: NamedSharding
    size: int
    owners: Int[np.ndarray, " b"]
    held: Int[np.ndarray, " h"]
    owned: Int[np.ndarray, " o"]

    def place(self, tree: PyTree) -> PyTree:
        """Returns global arrays of `size` rows, of the rows `held` that every process gives.

        Raises:
            ValueError: an array of another number of rows.
        """
        return jax.tree.map(self._place, tree)

    def read(self, array: Array) -> np.ndarray:
        """Returns the rows `owned` of a global array that lies as `sharding` says.

        Raises:
            ValueError: an array of another number of rows, or that lies otherwise.
        """
        owned, found = {*self.owned.tolist()}, {}
        for shard in array.addressable_shards:
            start = shard.index[0].start or 0
            if start in owned and start not in found:
                found[start] = np.asarray(shard.data)
        if not found:
            return np.zeros((0, *array.shape[1:]), array.dtype)
        rows = np.concatenate([found[start] for start in sorted(found)])
        if array.shape[0] != self.size or len(rows) != len(self.owned):
            raise ValueError(
                f"an array of {array.shape[0]} rows gave {len(rows)}; of a batch of {self.size} "
                f"this process owns {len(self.owned)}"
            )
        return rows

    def dealt(self, rows: range) -> Int[np.ndarray, "n b"]:
        """Returns batches of rows, dealt so that each process owns one range of them.

        -1 stands where no row is left. With one process the rows keep their order.
        """
        batches = -(-len(rows) // self.size)
        numbers, start = np.empty((batches, self.size), np.int64), rows.start
        for owner in np.unique(self.owners):
            at = np.flatnonzero(self.owners == owner)
            numbers[:, at] = start + np.arange(batches * len(at)).reshape(batches, -1)
            start += batches * len(at)
        return np.where(numbers < rows.stop, numbers, -1)

    def _place(self, x: np.ndarray) -> Array:
        if len(x) != len(self.held):
            raise ValueError(
                f"an array has {len(x)} rows; of a batch of {self.size} this process holds "
                f"{len(self.held)}"
            )
        x = np.asarray(x)

        def shard(index: tuple[slice, ...]) -> np.ndarray:
            start, stop, _ = index[0].indices(self.size)
            first = int(np.searchsorted(self.held, start))
            return x[first : first + stop - start]

        return jax.make_array_from_callback((self.size, *x.shape[1:]), self.sharding, shard)


@functools.lru_cache(maxsize=64)
def share_of(sharding: NamedSharding, size: int) -> Share:
    """Returns this process's share of batches of `size` rows.

    Args:
        sharding: divides the first axis alone, see `batch_sharding`.
        size: rows of the whole batch.

    Raises:
        ValueError: the rows do not divide over the devices.
    """
    where = sharding.devices_indices_map((size,))
    owners = np.full(size, -1)
    held = np.zeros(size, bool)
    this = jax.process_index()
    for device, (rows,) in sorted(where.items(), key=lambda item: -item[0].process_index):
        owners[rows] = device.process_index
        held[rows] |= device.process_index == this
    return Share(sharding, size, owners, np.flatnonzero(held), np.flatnonzero(owners == this))


def padded(rows: Sequence[Any], size: int) -> list[Any]:
    """Returns `rows`, filled up to `size` with the last one."""
    return [*rows, *[rows[-1]] * (size - len(rows))]
