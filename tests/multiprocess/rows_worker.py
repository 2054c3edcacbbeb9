"""One of several processes that train on one batch: `python rows_worker.py RANK PORT COUNT OUT`.

Every case is a mesh whose devices lie in no order, so that a process has rows here and there, or
whose rows several processes hold.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import tiny_training as tiny

from tests.two_processes import joined
from vidpref.datasets.pipeline import training_batches
from vidpref.training.loop import fit
from vidpref.training.metrics import read_metrics
from vidpref.training.processes import share_of
from vidpref.training.sharding import batch_sharding, make_mesh

SHUFFLED = (3, 6, 0, 5, 1, 7, 4, 2)
MESHES = {
    "rows": {"data": 4, "fsdp": 2},
    "context": {"data": 2, "context": 4},
    "tensor": {"fsdp": 2, "tensor": 4},
}


class Rows:
    """The rows of `tiny_training` as a source."""

    def __init__(self):
        self.x, self.y = tiny.rows(64)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "y": self.y[index]}


def train(case: str, out: Path) -> list[dict]:
    """Returns the metrics of every step; the noise of a row depends on its place in the batch."""
    devices = jax.devices()
    mesh = make_mesh(MESHES[case], [devices[i] for i in SHUFFLED])
    settings = tiny.config(steps=6, checkpoint_every=3)
    share = share_of(batch_sharding(mesh), settings.batch_size)
    batches = training_batches(Rows(), batch_size=settings.batch_size, seed=1, positions=share.held)
    fit(tiny.plan(mesh, settings), batches, out)
    check_share(share)
    return read_metrics(out)


def check_share(share) -> None:
    """What is fed is there, and what is read is owned once."""
    numbers = np.arange(share.size, dtype=np.float32)[:, None]
    array = share.place(numbers[share.held])
    assert array.shape == numbers.shape
    total = jax.jit(lambda x: (x.sum(), (x * x).sum()))(array)
    assert [float(x) for x in total] == [numbers.sum(), (numbers**2).sum()]
    np.testing.assert_array_equal(share.read(array), numbers[share.owned])
    assert (share.owners[share.owned] == jax.process_index()).all()


if __name__ == "__main__":
    rank, port, count, out = *map(int, sys.argv[1:4]), Path(sys.argv[4])
    with joined(rank, port, count):
        for case in sys.argv[5:]:
            train(case, out / case)
