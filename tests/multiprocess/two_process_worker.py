"""One of two processes that train together: `python two_process_worker.py RANK PORT WORKDIR`."""

import sys
from pathlib import Path

import jax
import tiny_training as tiny

from tests.two_processes import joined
from vidpref.training.checkpoints import save_params
from vidpref.training.loop import fit
from vidpref.training.sharding import make_mesh


def main(rank: int, workdir: Path) -> None:
    mesh = make_mesh({"data": -1, "fsdp": 2})
    assert (jax.process_count(), mesh.size, jax.local_device_count()) == (2, 8, 4)
    settings = tiny.config(steps=12, checkpoint_every=6)
    batches = tiny.batches(shard=rank, shards=2)
    plan = tiny.plan(mesh, settings, tiny.plain_loss)
    state = fit(plan, batches, workdir)
    again = fit(plan, batches, workdir)
    assert int(again.step) == 12  # the second call found everything done
    save_params(workdir / "params", state.params)


if __name__ == "__main__":
    rank, port = int(sys.argv[1]), int(sys.argv[2])
    with joined(rank, port):
        main(rank, Path(sys.argv[3]))
