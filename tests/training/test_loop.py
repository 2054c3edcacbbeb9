import json
import os
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_training as tiny

from vidpref.coordination import stopping
from vidpref.training.loop import TrainingDiverged, fit
from vidpref.training.metrics import read_metrics
from vidpref.training.plan import check_config
from vidpref.training.preemption import Preempted
from vidpref.training.sharding import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 4, "fsdp": 2})


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def train(folder, mesh, loss_fn=tiny.loss_fn, batches=None, name="train", **fields):
    keys = ("evaluate", "start", "frozen", "warning")
    options = {k: fields.pop(k) for k in keys if k in fields}
    batches = tiny.batches() if batches is None else batches
    plan = tiny.plan(mesh, tiny.config(**fields), loss_fn, name=name)
    return fit(plan, batches, folder, **options)


class Interrupted:
    """The batches of `tiny`; after `left` of them, does something before each next one."""

    def __init__(self, left, do=None):
        self._inner, self.left = tiny.batches(), left
        self._do = do or self._stop

    def __iter__(self):
        return self

    def __next__(self):
        self.left -= 1
        if self.left < 0:
            self._do()
        return next(self._inner)

    def get_state(self):
        return json.dumps(self._inner.get_state(), indent=4).encode()

    def _stop(self):
        raise KeyboardInterrupt


def test_learns_and_writes_its_metrics(mesh, tmp_path):
    state = train(tmp_path, mesh, steps=30, log_every=5)
    assert int(state.step) == 30
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 25, 30]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    names = {"step", "loss", "error", "grad_norm", "update_norm", "param_norm", "learning_rate"}
    assert set(lines[0]) == names
    assert not (tmp_path / "checkpoints").exists()


def test_goes_on_where_it_stopped(mesh, tmp_path):
    whole = train(tmp_path / "whole", mesh, steps=12, checkpoint_every=5)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", mesh, batches=Interrupted(11), checkpoint_every=5)
    parts = train(tmp_path / "parts", mesh, steps=12, checkpoint_every=5)
    same((parts.params, parts.opt_state, parts.ema), (whole.params, whole.opt_state, whole.ema))
    assert read_metrics(tmp_path / "parts") == read_metrics(tmp_path / "whole")
    again = train(tmp_path / "parts", mesh, steps=12, checkpoint_every=5)  # nothing left to do
    same(again.params, whole.params)
    assert len(read_metrics(tmp_path / "parts")) == 12


def test_sigterm_saves_and_stops(mesh, tmp_path, capsys):
    whole = train(tmp_path / "whole", mesh, checkpoint_every=5)
    batches = Interrupted(7, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted, match=r"stopped at step 8, saved to .*checkpoints/8") as stop:
        train(tmp_path / "parts", mesh, batches=batches, checkpoint_every=5)
    assert stop.value.code == 143
    assert "train: stopped at step 8, saved to" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    parts = train(tmp_path / "parts", mesh, checkpoint_every=5)
    assert "goes on from step 8 of 12" in capsys.readouterr().err
    same((parts.params, parts.ema), (whole.params, whole.ema))
    assert read_metrics(tmp_path / "parts") == read_metrics(tmp_path / "whole")


def test_checkpoints_by_time_come_besides(mesh, tmp_path, capsys, monkeypatch):
    whole = train(tmp_path / "whole", mesh, checkpoint_every=10)
    batches = Interrupted(6)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, mesh, batches=batches, checkpoint_every=10, checkpoint_minutes=1e-9)
    said = capsys.readouterr().err
    assert re.search(r"train: checkpoint of step \d: [\d.e-]+ GB in [\d.]+ s\n", said)
    parts = train(tmp_path, mesh, checkpoint_every=10)
    assert "goes on from step 6 of 12" in capsys.readouterr().err
    same(parts.params, whole.params)
    monkeypatch.setattr(stopping, "_grace", 0.0)
    train(tmp_path / "slow", mesh, checkpoint_every=2)
    assert "longer than the 0 s that a host has after SIGTERM" in capsys.readouterr().err


def test_sigterm_after_the_last_step_is_not_lost(mesh, tmp_path):
    def stop(params, step):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    with pytest.raises(Preempted, match="stopped after a training; the same command goes on"):
        train(tmp_path, mesh, checkpoint_every=12, evaluate=stop)
    again = train(tmp_path, mesh, checkpoint_every=12, evaluate=stop)  # nothing left to do
    assert int(again.step) == 12


def test_sigterm_without_checkpoints_says_so(mesh, tmp_path):
    batches = Interrupted(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted, match="stopped at step 3; nothing saved"):
        train(tmp_path, mesh, batches=batches)


def poisoned(params, frozen, batch, rng):
    """Turns infinite when it sees the poisoned batch."""
    loss, metrics = tiny.plain_loss(params, frozen, batch, rng)
    return loss, {**metrics, "margin": loss / jnp.min(jnp.abs(batch["x"]) + batch["x"] ** 2)}


@pytest.mark.parametrize("every", [0, 3])
def test_divergence_names_step_metric_and_checkpoint(every, mesh, tmp_path):
    class Poison(Interrupted):
        def __next__(self):
            batch = super().__next__()
            return batch if self.left >= 0 else {**batch, "x": batch["x"] * 0}

    batches = Poison(7, lambda: None)
    with pytest.raises(TrainingDiverged) as error:
        train(tmp_path, mesh, poisoned, batches, checkpoint_every=every, name="align")
    message = str(error.value)
    assert message.startswith("align: step 8: margin is inf.")
    if every:
        assert f"step 6: {tmp_path / 'checkpoints' / '6'}" in message
    else:
        assert "checkpoint_every=0" in message
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(1, 8))


def test_a_bad_step_is_never_saved(mesh, tmp_path):
    def loss_fn(params, frozen, batch, rng):
        loss, metrics = tiny.plain_loss(params, frozen, batch, rng)
        return loss * jnp.where(frozen["poison"] > 0, jnp.nan, 1.0), metrics

    with pytest.raises(TrainingDiverged, match=r"step 1: loss is nan\. No checkpoint before it"):
        train(tmp_path, mesh, loss_fn, checkpoint_every=1, frozen={"poison": np.float32(1)})
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_evaluation_chooses_what_is_returned(mesh, tmp_path):
    seen = {}

    def evaluate(params, step):
        seen[step] = jax.device_get(params)
        return {"accept": {4: 0.2, 8: 0.7, 12: 0.5}[step]}

    options = {"evaluate": evaluate, "best_metric": "accept", "checkpoint_every": 4}
    state = train(tmp_path, mesh, keep_last=1, log_every=6, **options)
    assert int(state.step) == 8
    same(state.ema, seen[8])
    lines = {line["step"]: line for line in read_metrics(tmp_path)}
    assert list(lines) == [4, 6, 8, 12]
    assert {step: line.get("accept") for step, line in lines.items()} == {
        4: 0.2,
        6: None,
        8: 0.7,
        12: 0.5,
    }
    again = train(tmp_path, mesh, keep_last=1, log_every=6, **options)
    same(again.params, state.params)


def test_a_warning_is_asked_for_once_with_the_means_up_to_the_first_logged_step(
    mesh, tmp_path, capsys
):
    asked = []

    def warning(metrics):
        asked.append(metrics)
        return "clips will get worse"

    train(tmp_path / "all", mesh, steps=4, log_every=1)
    train(tmp_path, mesh, steps=4, log_every=2, warning=warning, name="align")
    first, second = read_metrics(tmp_path / "all")[:2]
    assert len(asked) == 1
    expected = {name: (first[name] + second[name]) / 2 for name in first.keys() - {"step"}}
    assert asked[0] == pytest.approx(expected, rel=1e-6)
    printed = capsys.readouterr().err
    assert printed.count("align: warning: clips will get worse\n") == 1
    train(tmp_path / "quiet", mesh, steps=1, log_every=1, warning=lambda metrics: "")
    assert "warning" not in capsys.readouterr().err


def test_evaluate_may_not_hide_a_metric(mesh, tmp_path):
    with pytest.raises(ValueError, match="evaluate returns 'loss'"):
        train(tmp_path, mesh, checkpoint_every=1, evaluate=lambda params, step: {"loss": 0.0})


def test_the_reference_survives_fine_tuning(mesh, tmp_path):
    start = train(tmp_path / "pretrain", mesh, steps=3).params
    before = jax.device_get(start)

    def loss_fn(params, frozen, batch, rng):
        loss, metrics = tiny.plain_loss(params, frozen, batch, rng)
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(frozen["reference"]), strict=True)
        distance = sum(jnp.sum((p - q) ** 2) for p, q in pairs)
        return loss, {**metrics, "distance": distance}

    state = train(tmp_path / "align", mesh, loss_fn, start=start, frozen={"reference": start})
    same(start, before)
    lines = read_metrics(tmp_path / "align")
    assert lines[0]["distance"] == 0.0
    assert lines[-1]["distance"] > 1e-4
    assert not np.array_equal(state.params["Dense_0"]["kernel"], start["Dense_0"]["kernel"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, r"train\.steps=0: must be >= 1"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"log_every": 0}, "log_every=0"),
        ({"keep_last": 0}, "keep_last=0"),
        ({"ema_decay": 1.0}, r"ema_decay=1.0: must be in \[0, 1\)"),
        ({"best_metric": "accept"}, "best_metric='accept'.* needs checkpoints"),
        ({"batch_size": 12}, r"batch_size=12: .* accumulate \(1\) .* axes data and fsdp \(8\)"),
        ({"accumulate": 4}, "batch_size=16: must be a multiple"),
        (
            {"optimizer": {"name": "sgd"}},
            r"train\.optimizer\.name='sgd': known are adam, adamw, muon",
        ),
    ],
)
def test_bad_settings_are_refused_by_name(fields, message, mesh):
    with pytest.raises(ValueError, match=message):
        check_config(tiny.config(**fields), mesh)


def test_bad_batches_are_refused(mesh, tmp_path):
    with pytest.raises(ValueError, match=r"step 1: .* \(8, 8\); its first axis must be 16"):
        train(tmp_path, mesh, batches=tiny.batches(8))
    with pytest.raises(ValueError, match="the batches ended before step 3"):
        train(tmp_path, mesh, batches=iter([tiny.one_batch(), tiny.one_batch()]))


def test_a_shorter_run_than_its_checkpoint_is_refused(mesh, tmp_path):
    train(tmp_path, mesh, steps=4, checkpoint_every=4)
    with pytest.raises(ValueError, match="is at step 4, after steps=2"):
        train(tmp_path, mesh, steps=2, checkpoint_every=4)
