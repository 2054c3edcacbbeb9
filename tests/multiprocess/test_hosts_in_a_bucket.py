"""Two hosts with disks of their own share a work directory in a bucket, stop, and go on."""

import json

import jax
import numpy as np
import pytest
import tiny_training as tiny

from tests.multiprocess.bucket_worker import settings
from tests.two_processes import run_two
from vidpref.storage import mirror
from vidpref.storage.bucket import Bucket
from vidpref.training.checkpoints import load_params
from vidpref.training.loop import fit
from vidpref.training.sharding import abstract_params, make_mesh


def _hosts(address, caches, stop):
    run_two("tests/multiprocess/bucket_worker.py", address, caches, int(stop))


@pytest.mark.parametrize("disks", ["new", pytest.param("kept", marks=pytest.mark.slow)])
def test_each_reads_what_the_other_wrote(disks, address, tmp_path):
    bucket = Bucket(address)
    _hosts(address, tmp_path / "first", stop=True)
    names = set(bucket.listing())
    (rows,) = (name for name in names if name.endswith(".parquet"))
    assert rows.endswith("/rows-0000004-0000006.parquet")
    assert "lock" not in names
    _hosts(address, tmp_path / ("first" if disks == "kept" else "second"), stop=False)
    names = bucket.listing()
    assert "lock" not in names
    assert not [name for name in names if "/." in name]
    done = [name for name in names if name.endswith("/done.json")]
    assert sorted(name.partition("-")[0] for name in done) == ["rows", "text", "train"]
    (train,) = (name.partition("/")[0] for name in done if name.startswith("train-"))
    listed = json.loads(bucket.read(f"{train}/done.json").data)["files"]
    assert {"metrics.jsonl"} < set(listed)

    folder = mirror.open_folder(address)
    mesh = make_mesh({"data": -1}, jax.devices()[:1])
    abstract = abstract_params(jax.eval_shape(tiny.init, jax.random.key(0)), mesh)
    found = load_params(folder / train / "params", abstract)
    plan = tiny.plan(mesh, settings(), tiny.plain_loss)
    expected = fit(plan, tiny.batches(), tmp_path / "one").params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
