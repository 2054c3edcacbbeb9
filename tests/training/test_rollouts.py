"""A policy that learns from its own samples: what a rollout sees, and that it can be resumed."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training as tiny
from test_loop import Interrupted, same

from vidpref.coordination.ending import STOPPED
from vidpref.training.loop import fit
from vidpref.training.metrics import read_metrics
from vidpref.training.plan import make_plan
from vidpref.training.processes import share_of
from vidpref.training.rollouts import Rollout, make_rollout
from vidpref.training.sharding import batch_sharding, make_mesh
from vidpref.training.tuning import Everything

MESH = {"data": 2, "fsdp": 2}
SAMPLES = 64
FROZEN = {"goal": np.float32(1.0)}


def init(key):
    return {"mean": jnp.zeros(tiny.FEATURES)}


def prepare(policy, frozen, batch, key, step):
    """Samples of a Gaussian around the policy's mean, with advantages by nearness to a goal."""
    noise_key, own_key = jax.random.split(key)
    shape = (batch["x"].shape[0], SAMPLES, tiny.FEATURES)
    samples = policy["mean"][None, None] + jax.random.normal(noise_key, shape)
    reward = -jnp.mean((samples - frozen["goal"]) ** 2, axis=-1)
    rows = jnp.ones(shape[:1])
    return {
        "samples": samples,
        "advantage": reward - reward.mean(axis=1, keepdims=True),
        "seen": rows[:, None] * policy["mean"][None],
        "draw": rows * jax.random.uniform(own_key),
        "x": batch["x"],
    }


def loss_fn(params, frozen, batch, rng):
    """REINFORCE: the gradient of the log-probability of every sample times its advantage."""
    log_p = -0.5 * jnp.sum((batch["samples"] - params["mean"][None, None]) ** 2, axis=-1)
    stale = jnp.abs(batch["seen"] - params["mean"][None]).max()
    metrics = {"draw": batch["draw"].mean(), "stale": stale, "mean": params["mean"].mean()}
    return -jnp.mean(batch["advantage"] * log_p), metrics


def train(
    folder, batches=None, prepare=prepare, seed=0, then=None, updates=1, ended=None, **settings
):
    mesh = make_mesh(MESH, jax.devices()[:4])
    optimizer = {"name": "adam", "learning_rate": 0.1, "warmup_steps": 0}
    config = tiny.config(optimizer, **{"steps": 6, "checkpoint_every": 3} | settings)
    plan = make_plan(Everything(init), loss_fn, config, mesh)
    batches = tiny.batches() if batches is None else batches
    rollout = Rollout(make_rollout(prepare, plan), then, updates, ended)
    state = fit(plan, batches, folder, seed=seed, rollout=rollout, frozen=FROZEN)
    return state, plan


def test_it_learns_from_samples_of_its_own(tmp_path):
    state, _ = train(tmp_path, steps=40)
    np.testing.assert_allclose(state.params["mean"], 1.0, atol=0.25)


def test_a_stopped_run_draws_the_same_samples(tmp_path):
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", Interrupted(4))  # one step after the checkpoint of step 3
    parts, _ = train(tmp_path / "parts")
    same((parts.params, parts.opt_state, parts.ema), (whole.params, whole.opt_state, whole.ema))
    assert read_metrics(tmp_path / "parts") == read_metrics(tmp_path / "whole")


@pytest.mark.parametrize("every", [0, 2, 3])
def test_a_rollout_ends_training_before_the_step_that_it_drew_for(every, tmp_path, capsys):
    """With the policy as it is, saved; and started again it ends there again."""
    train(tmp_path / "whole", steps=9, checkpoint_every=every)
    wanted, told = read_metrics(tmp_path / "whole")[:4], []

    def then(drawn, step):
        told.append(step)
        return drawn, {}

    def ended():
        return "the clips are grey" if told[-1] > 4 else ""

    state, _ = train(tmp_path / "run", then=then, ended=ended, steps=9, checkpoint_every=every)
    assert int(state.step) == 4
    assert read_metrics(tmp_path / "run") == wanted
    assert optax.tree.norm(state.params) == pytest.approx(wanted[-1]["param_norm"], rel=1e-6)
    assert "ends after step 4 of 9: the clips are grey" in capsys.readouterr().err
    if every:
        told.clear()
        again, _ = train(tmp_path / "run", then=then, ended=ended, steps=9, checkpoint_every=every)
        assert told == [5]
        same(again.params, state.params)


HANGS = """
import sys, time
from pathlib import Path
import test_rollouts
from vidpref.coordination import stalls

stalls.give_up_after(0.5)
def a_judge_that_waits(drawn, step):
    if step == 2:
        time.sleep(600)
    return drawn, {}
test_rollouts.train(Path(sys.argv[1]), then=a_judge_that_waits)
"""


@pytest.mark.slow
def test_a_rollout_that_never_ends_says_where_it_waits(tmp_path):
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parents[1]}:{here}"}
    ended = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == STOPPED
    assert "train: no step for 0.5 minutes, after 1 in this process" in ended.stderr
    assert "in a_judge_that_waits" in ended.stderr


def test_the_batch_comes_from_the_policy_as_it_is_now(tmp_path):
    train(tmp_path)
    lines = read_metrics(tmp_path)
    assert [line["stale"] for line in lines] == [0.0] * 6
    # parameters of the step before would be off by its update
    assert all(line["update_norm"] > 1e-3 for line in lines)


def test_every_step_has_noise_of_its_own_that_follows_from_the_seed(tmp_path):
    draws = []
    for number, seed in enumerate((0, 0, 1)):
        train(tmp_path / str(number), seed=seed)
        draws.append([line["draw"] for line in read_metrics(tmp_path / str(number))])
    assert draws[0] == draws[1]
    assert len({*draws[0], *draws[2]}) == 12


def test_the_loss_draws_other_noise(tmp_path):
    """Neither the step's key nor the keys of its microbatches are that of the rollout."""
    seen = []

    def with_key(policy, frozen, batch, key, step):
        data = jnp.broadcast_to(jax.random.key_data(key), (batch["x"].shape[0], 2))
        return prepare(policy, frozen, batch, key, step) | {"key": data}

    def report(params, frozen, batch, rng):
        loss, _ = loss_fn(params, frozen, batch, rng)
        equal = jnp.all(batch["key"] == jax.random.key_data(rng)[None], axis=1)
        return loss, {"equal": equal.mean()}

    mesh = make_mesh({}, jax.devices()[:1])
    for accumulate in (1, 4):
        folder = tmp_path / str(accumulate)
        plan = make_plan(
            Everything(init), report, tiny.config(steps=3, accumulate=accumulate), mesh
        )
        rollout = Rollout(make_rollout(with_key, plan))
        fit(plan, tiny.batches(), folder, rollout=rollout, frozen=FROZEN)
        seen += [line["equal"] for line in read_metrics(folder)]
    assert seen == [0.0] * 6


def test_nothing_is_compiled_again_from_step_to_step(tmp_path):
    traced, compiled, at_step = [], [], []

    def counted(policy, frozen, batch, key, step):
        traced.append(key)
        return prepare(policy, frozen, batch, key, step)

    def listen(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)

    class Counting(Interrupted):
        def __next__(self):
            at_step.append(len(compiled))
            return super().__next__()

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        train(tmp_path, Counting(6), prepare=counted, checkpoint_every=0)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(traced) == 1
    assert at_step[0] < at_step[1] == at_step[-1]  # the first step compiles, and no other


def test_it_sees_a_reference_that_follows(tmp_path):
    def with_reference(policy, frozen, batch, key, step):
        moved = jnp.abs(policy["mean"] - frozen["reference"]["mean"]).max()
        made = prepare(policy, frozen, batch, key, step)
        return made | {"draw": jnp.broadcast_to(moved, batch["x"].shape[:1])}

    train(tmp_path, prepare=with_reference, reference_decay=0.5)
    distances = [line["draw"] for line in read_metrics(tmp_path)]
    assert distances[0] == 0.0
    assert min(distances[1:]) > 0.0


def seen_then(folder, updates, steps, batches=None):
    """Trains with a judge in Python that notes the step; returns the logged lines."""

    def judge(drawn, step):
        share = share_of(batch_sharding(make_mesh(MESH, jax.devices()[:4])), len(drawn["x"]))
        advantage = share.read(drawn["advantage"])
        return drawn | {"advantage": share.place(2 * advantage)}, {"judged": float(step)}

    train(folder, batches, then=judge, updates=updates, steps=steps)
    return read_metrics(folder)


def test_a_judge_in_python_changes_what_is_learnt_and_its_metrics_are_logged(tmp_path):
    lines = seen_then(tmp_path / "judged", 1, 3)
    assert [line["judged"] for line in lines] == [1.0, 2.0, 3.0]
    train(tmp_path / "plain", steps=3)
    plain = read_metrics(tmp_path / "plain")
    np.testing.assert_allclose(lines[0]["grad_norm"], 2 * plain[0]["grad_norm"], rtol=1e-5)


def test_several_steps_learn_from_one_drawing_each_from_rows_of_its_own(tmp_path):
    lines = seen_then(tmp_path, 2, 6)
    assert [line["judged"] for line in lines] == [1.0, 1.0, 3.0, 3.0, 5.0, 5.0]
    draws = [line["draw"] for line in lines]
    assert draws[0] == draws[1] != draws[2] == draws[3]
    stale = [line["stale"] for line in lines]
    assert stale[::2] == [0.0] * 3
    assert min(stale[1::2]) > 0
    drawn = {"x": np.arange(8)}
    mesh = make_mesh({}, jax.devices()[:1])
    parts = [Rollout(lambda *_: None, updates=4).part(drawn, step, mesh)["x"] for step in (5, 8)]
    assert [part.tolist() for part in parts] == [[0, 4], [3, 7]]


def test_a_run_is_saved_between_drawings_only(tmp_path):
    """Checkpoints are asked for at every third step, and a drawing is for two."""
    whole = seen_then(tmp_path / "whole", 2, 8)
    with pytest.raises(KeyboardInterrupt):
        seen_then(tmp_path / "parts", 2, 8, Interrupted(7))
    assert [path.name for path in (tmp_path / "parts" / "checkpoints").glob("[0-9]*")] == ["6"]
    assert seen_then(tmp_path / "parts", 2, 8) == whole
