"""A process feeds the rows that its devices hold, wherever these lie in the mesh."""

import shutil

import jax
import numpy as np
import pytest
from rows_worker import MESHES, SHUFFLED, train

from tests.two_processes import run_many
from vidpref.training.metrics import read_metrics
from vidpref.training.processes import Share, share_of
from vidpref.training.sharding import batch_sharding, make_mesh

WORKER = "tests/multiprocess/rows_worker.py"


@pytest.mark.parametrize(
    ("count", "cases", "counts"),
    [
        (4, ("rows", "context"), (1,)),
        pytest.param(2, tuple(MESHES), (4, 8), marks=pytest.mark.slow),
        pytest.param(4, ("tensor",), (2,), marks=pytest.mark.slow),
    ],
)
def test_processes_train_as_one_does(count, cases, counts, tmp_path):
    run_many(count, WORKER, count, tmp_path / "many", *cases, devices=8 // count)
    for case in cases:
        expected, found = train(case, tmp_path / case), read_metrics(tmp_path / "many" / case)
        assert len(found) == len(expected) == 6
        for name in ("loss", "grad_norm", "param_norm"):
            one, many = ([line[name] for line in lines] for lines in (expected, found))
            np.testing.assert_allclose(many, one, rtol=1e-5, err_msg=f"{case} {name}")
        losses = [line["loss"] for line in expected]
        assert len({*losses}) == 6  # it does train
    for other in counts:  # goes on at step 3 with another number of processes
        again = tmp_path / f"again-{other}"
        shutil.copytree(tmp_path / "many", again)
        for case in cases:
            shutil.rmtree(again / case / "checkpoints" / "6")
        if other > 1:
            run_many(other, WORKER, other, again, *cases, devices=8 // other)
        for case in cases:
            found = train(case, again / case) if other == 1 else read_metrics(again / case)
            expected = read_metrics(tmp_path / case)
            one, many = ([line["loss"] for line in lines] for lines in (expected, found))
            np.testing.assert_allclose(many, one, rtol=1e-5, err_msg=f"{case} on {other}")


def test_one_process_holds_and_owns_all():
    for case, sizes in MESHES.items():
        mesh = make_mesh(sizes, [jax.devices()[i] for i in SHUFFLED])
        share = share_of(batch_sharding(mesh), 16)
        assert share.held.tolist() == share.owned.tolist() == list(range(16)), case
        values = np.arange(32.0, dtype=np.float32).reshape(16, 2)
        np.testing.assert_array_equal(share.read(share.place(values)), values)
        with pytest.raises(ValueError, match="has 8 rows; of a batch of 16 this process holds 16"):
            share.place(values[:8])
        with pytest.raises(ValueError, match=r"an array of 8 rows gave 8; .* 16 this process owns"):
            share.read(share_of(batch_sharding(mesh), 8).place(values[:8]))


@pytest.mark.parametrize("owners", [[0, 0, 1, 1], [0, 1, 0, 1], [2, 0, 0, 1], [0, 0, 0, 0]])
@pytest.mark.parametrize("rows", [range(3, 4), range(0, 8), range(5, 18)])
def test_rows_are_dealt_in_ranges(owners, rows):
    owners = np.array(owners)
    sharding = batch_sharding(make_mesh({}, jax.devices()[:1]))
    share = Share(sharding, 4, owners, np.arange(4), np.arange(4))
    numbers = share.dealt(rows)
    assert len(numbers) == -(-len(rows) // 4)
    assert sorted(numbers[numbers >= 0].tolist()) == list(rows)
    for owner in set(owners.tolist()):
        own = numbers[:, owners == owner].ravel()
        own = own[own >= 0]
        assert len(own) == 0 or own.tolist() == list(range(own[0], own[0] + len(own)))
    if len({*owners.tolist()}) == 1:
        assert numbers[numbers >= 0].tolist() == list(rows)
