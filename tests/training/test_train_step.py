import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training as tiny

from vidpref.training.optimizer import learning_rate_schedule, make_optimizer
from vidpref.training.sharding import make_mesh, param_shardings
from vidpref.training.state import create_state, state_shardings
from vidpref.training.step import make_train_step, put_batch

GOLDEN = {
    "adam": {
        "loss": 2.685200214,
        "error": 1.309852242,
        "grad_norm": 7.27887392,
        "update_norm": 0.295631021,
        "param_norm": 13.109729767,
        "learning_rate": 0.005,
    },
    "muon": {
        "loss": 2.685200214,
        "error": 1.309852242,
        "grad_norm": 7.27887392,
        "update_norm": 0.108597599,
        "param_norm": 13.11932373,
        "learning_rate": 0.005,
    },
}


def build(mesh, loss_fn=tiny.loss_fn, ema_decay=0.0, optimizer=None, **options):
    c = tiny.config(optimizer)
    boxed = jax.eval_shape(tiny.init, jax.random.key(0))
    schedule = learning_rate_schedule(c.optimizer, c.steps)
    optimizer = make_optimizer(c.optimizer, schedule, boxed)
    _, shardings = state_shardings(tiny.init, optimizer, mesh, with_ema=ema_decay > 0)
    state = create_state(tiny.init, optimizer, shardings, seed=0)
    step = make_train_step(
        loss_fn, optimizer, schedule, shardings, mesh, ema_decay=ema_decay, **options
    )
    return state, step


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 4, "fsdp": 2})


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_golden_metrics_after_one_step(name, mesh):
    state, step = build(mesh, optimizer={"name": name})
    _, metrics = step(state, {}, put_batch(tiny.one_batch(), mesh))
    got = {key: float(value) for key, value in metrics.items()}
    message = (
        "one training step gives other numbers than before. If the change is meant (initial "
        "parameters, noise, loss, optimizer), put the new numbers into GOLDEN and say why in the "
        f"commit; if not, it is a bug.\nnew: {got}"
    )
    assert got == pytest.approx(GOLDEN[name], rel=2e-5), message


def test_gradient_norm_and_update_by_hand(mesh):
    state, step = build(mesh, tiny.plain_loss, optimizer={"clip_norm": 0.0})
    params = jax.tree.map(np.asarray, state.params)
    batch = tiny.one_batch()
    (loss, _), grads = jax.value_and_grad(tiny.plain_loss, has_aux=True)(params, {}, batch, None)
    state, metrics = step(state, {}, put_batch(batch, mesh))
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(grads), rtol=1e-5)
    moved = jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, params)
    # Adam's first update is the learning rate (half of it: the warm-up takes two steps) times a
    # sign; a gradient near its epsilon moves less.
    np.testing.assert_allclose(metrics["learning_rate"], 5e-3, rtol=1e-6)
    jax.tree.map(
        lambda d, g: np.testing.assert_allclose(
            d, -5e-3 * np.asarray(g) / (np.abs(g) + 1e-8), rtol=1e-2, atol=1e-5
        ),
        moved,
        grads,
    )
    np.testing.assert_allclose(metrics["update_norm"], optax.tree.norm(moved), rtol=1e-4)
    np.testing.assert_allclose(metrics["param_norm"], optax.tree.norm(state.params), rtol=1e-5)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_equals_the_full_batch(accumulate, mesh):
    batch = put_batch(tiny.one_batch(32), mesh)
    results = []
    for parts in (1, accumulate):
        state, step = build(mesh, tiny.plain_loss, accumulate=parts)
        for _ in range(3):
            state, metrics = step(state, {}, batch)
        results.append((jax.device_get(metrics), jax.device_get(state.params)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)


def test_microbatches_are_strided_and_have_their_own_noise(mesh):
    """Microbatch i must hold the rows i, i + 2, ...; its noise comes from fold_in(rng, i)."""

    def loss_fn(params, frozen, batch, rng):
        noise = jax.random.normal(rng, (8,))
        weight = sum(jnp.sum(p) for p in jax.tree.leaves(params))
        return jnp.mean(batch["x"][:, 0]) * weight * 0 + jnp.mean(noise * batch["x"][:, 0]), {}

    state, step = build(mesh, loss_fn, accumulate=2)
    rng = jax.random.fold_in(state.key, 0)
    batch = tiny.one_batch(16)
    expected = np.mean(
        [
            np.mean(jax.random.normal(jax.random.fold_in(rng, i), (8,)) * batch["x"][i::2, 0])
            for i in range(2)
        ]
    )
    _, metrics = step(state, {}, put_batch(batch, mesh))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_accumulation_moves_no_rows_between_devices():
    mesh = make_mesh({"data": 8})
    state, step = build(mesh, tiny.plain_loss, accumulate=2)
    text = step.lower(state, {}, put_batch(tiny.one_batch(32), mesh)).compile().as_text()
    assert "all-reduce" in text  # of the gradients
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in text


def test_ema_closed_form(mesh):
    decay, steps = 0.9, 5
    state, step = build(mesh, ema_decay=decay)
    history = [jax.device_get(state.params)]
    batch = put_batch(tiny.one_batch(), mesh)
    for _ in range(steps):
        state, _ = step(state, {}, batch)
        history.append(jax.device_get(state.params))
    weights = [decay**steps] + [(1 - decay) * decay ** (steps - i) for i in range(1, steps + 1)]
    expected = jax.tree.map(
        lambda *p: sum(w * x for w, x in zip(weights, p, strict=True)), *history
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.ema, expected)


def test_the_state_is_donated_and_keeps_its_place(mesh):
    state, step = build(mesh, ema_decay=0.9)
    new, _ = step(state, {}, put_batch(tiny.one_batch(), mesh))
    assert all(x.is_deleted() for x in jax.tree.leaves((state.params, state.opt_state, state.ema)))
    wanted = param_shardings(jax.eval_shape(tiny.init, jax.random.key(0)), mesh)
    for tree in (new.params, new.ema):
        assert all(
            x.sharding.is_equivalent_to(s, x.ndim)
            for x, s in zip(jax.tree.leaves(tree), jax.tree.leaves(wanted), strict=True)
        )
    kernel = new.params["blocks"]["Dense_0"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (3, tiny.WIDTH // 2, 2 * tiny.WIDTH)
    assert int(new.step) == 1


def test_noise_depends_on_the_step_alone(mesh):
    batch = put_batch(tiny.one_batch(), mesh)

    def losses():
        state, step = build(mesh, optimizer={"learning_rate": 1e-30})
        out = []
        for _ in range(3):
            state, metrics = step(state, {}, batch)
            out.append(float(metrics["loss"]))
        return out

    first = losses()
    assert len(set(first)) == 3  # parameters stand still, so only the noise differs
    assert losses() == first


def test_no_transfer_goes_unseen(mesh):
    state, step = build(mesh)
    batch = tiny.one_batch()
    placed = put_batch(batch, mesh)
    with jax.transfer_guard("disallow"):
        state, _ = step(state, {}, placed)
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            step(state, {}, batch)


def test_a_loss_that_reads_a_value_on_the_host_fails(mesh):
    def loss_fn(params, frozen, batch, rng):
        loss, metrics = tiny.plain_loss(params, frozen, batch, rng)
        return loss, {**metrics, "host": float(loss)}

    state, step = build(mesh, loss_fn)
    with pytest.raises(jax.errors.ConcretizationTypeError):
        step(state, {}, put_batch(tiny.one_batch(), mesh))
