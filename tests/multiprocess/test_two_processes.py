"""Two processes of four devices give what one process of eight gives, and save for it."""

import jax
import numpy as np
import pytest
import tiny_training as tiny

from tests.two_processes import run_two
from vidpref.training.checkpoints import Checkpoints, load_params
from vidpref.training.loop import fit
from vidpref.training.metrics import read_metrics
from vidpref.training.optimizer import make_optimizer
from vidpref.training.sharding import abstract_params, make_mesh
from vidpref.training.state import state_shardings


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two")
    run_two("tests/multiprocess/two_process_worker.py", workdir, devices=4)
    return workdir


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    mesh = make_mesh({"data": -1, "fsdp": 2})
    plan = tiny.plan(mesh, tiny.config(steps=12), tiny.plain_loss)
    state = fit(plan, tiny.batches(), workdir)
    return state, read_metrics(workdir)


def test_losses_are_equal(two_processes, one_process):
    lines = read_metrics(two_processes)
    assert [line["step"] for line in lines] == list(range(1, 13))
    for name in ("loss", "grad_norm", "param_norm"):
        got, expected = ([line[name] for line in run] for run in (lines, one_process[1]))
        np.testing.assert_allclose(got, expected, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("devices", [8, 1])
def test_a_checkpoint_of_two_restores_in_one(devices, two_processes, one_process):
    mesh = make_mesh({"data": -1}, jax.devices()[:devices])
    boxed = jax.eval_shape(tiny.init, jax.random.key(0))
    optimizer = make_optimizer(tiny.config().optimizer, lambda _: 0.1, boxed)
    abstract, _ = state_shardings(tiny.init, optimizer, mesh, with_ema=True)
    with Checkpoints(two_processes / "checkpoints", keep_last=2) as checkpoints:
        assert checkpoints.steps() == [6, 12]
        state = checkpoints.restore(abstract)
    expected = one_process[0]
    assert int(state.step) == 12
    for name in ("params", "ema"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
            getattr(state, name),
            getattr(expected, name),
        )
    params = load_params(two_processes / "params", abstract_params(boxed, mesh))
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
