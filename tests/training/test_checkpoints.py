import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_training as tiny

from vidpref.training.checkpoints import Checkpoints, load_params, save_params
from vidpref.training.optimizer import make_optimizer
from vidpref.training.sharding import abstract_params, make_mesh
from vidpref.training.state import TrainState, create_state, state_shardings


def plan(mesh, name="adam"):
    """The abstract state of `tiny`, its shardings and its optimizer."""
    boxed = jax.eval_shape(tiny.init, jax.random.key(0))
    optimizer = make_optimizer(tiny.config({"name": name}).optimizer, lambda _: 0.1, boxed)
    return *state_shardings(tiny.init, optimizer, mesh, with_ema=True), optimizer


def build(mesh):
    abstract, shardings, optimizer = plan(mesh)
    return abstract, create_state(tiny.init, optimizer, shardings, seed=3)


def small_state():
    """A state of one parameter, for tests that look at files alone."""
    state = TrainState(
        step=jnp.int32(1), params={"w": jnp.arange(3.0)}, opt_state=(), ema=None, key=None
    )
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state), state


def same(a, b):
    def one(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))

    jax.tree.map(one, a, b)


@pytest.fixture(scope="module")
def eight():
    return make_mesh({"data": 2, "fsdp": 2, "tensor": 2})


def test_restores_on_another_mesh(eight, tmp_path):
    _, state = build(eight)
    with Checkpoints(tmp_path, keep_last=1) as checkpoints:
        checkpoints.save(state, 3, {"loss": 1.0})
    for other in (make_mesh({"fsdp": 4}, jax.devices()[:4]), make_mesh({}, jax.devices()[:1])):
        abstract, _, _ = plan(other)
        with Checkpoints(tmp_path, keep_last=1) as checkpoints:
            restored = checkpoints.restore(abstract)
        same(restored, state)
        assert all(
            x.sharding.is_equivalent_to(wanted.sharding, x.ndim)
            for x, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(abstract), strict=True)
        )


def test_what_was_saved_is_not_what_came_after(eight, tmp_path):
    """Saving goes on in the background while the next steps overwrite donated buffers."""
    abstract, state = build(eight)
    bump = jax.jit(
        lambda s: s.replace(params=jax.tree.map(lambda x: x + 1, s.params)), donate_argnums=0
    )
    before = jax.device_get(state.params)
    with Checkpoints(tmp_path, keep_last=9) as checkpoints:
        for step in range(1, 4):
            state = bump(state)
            checkpoints.save(state, step, {"loss": 1.0})
            for _ in range(5):
                state = bump(state)
        for step in range(1, 4):
            got = checkpoints.restore(abstract, step=step).params
            shift = (step - 1) * 6 + 1
            jax.tree.map(
                lambda x, y, s=shift: np.testing.assert_allclose(x, y + s, atol=1e-5), got, before
            )


@pytest.mark.parametrize(
    ("best_metric", "kept"), [("", [5, 6]), ("accept", [2, 5, 6]), ("-accept", [3, 5, 6])]
)
def test_keeps_the_last_and_the_best(best_metric, kept, tmp_path):
    _, state = small_state()
    scores = {1: 0.4, 2: 0.9, 3: 0.1, 4: 0.5, 5: 0.6}
    with Checkpoints(tmp_path, keep_last=2, best_metric=best_metric) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(state, step, {"accept": score, "loss": 1.0})
        checkpoints.save(state, 6, None)  # an emergency save is not ranked
    with Checkpoints(tmp_path, keep_last=2, best_metric=best_metric) as checkpoints:
        assert checkpoints.steps() == kept
        assert checkpoints.latest_step == 6
        assert checkpoints.best_step == {"": 6, "accept": 2, "-accept": 3}[best_metric]


def test_a_best_metric_that_is_not_there(tmp_path):
    _, state = small_state()
    with (
        Checkpoints(tmp_path, keep_last=2, best_metric="acept") as checkpoints,
        pytest.raises(ValueError, match=r"best_metric='acept': the metrics .* are accept, loss"),
    ):
        checkpoints.save(state, 1, {"loss": 1.0, "accept": 0.5})


def test_nothing_there(tmp_path):
    abstract, _ = small_state()
    with Checkpoints(tmp_path, keep_last=1) as checkpoints:
        assert checkpoints.latest_step is None
        assert checkpoints.restore(abstract) is None


def test_half_a_checkpoint_is_ignored(tmp_path):
    abstract, state = small_state()
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        checkpoints.save(state, 1, {"loss": 1.0})
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "2.orbax-checkpoint-tmp" / "state").write_text("half")
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        assert checkpoints.latest_step == 1
        same(checkpoints.restore(abstract), state)
    assert [p.name for p in tmp_path.iterdir()] == ["1"]


def test_a_checkpoint_of_another_optimizer(tmp_path):
    mesh = make_mesh({}, jax.devices()[:1])
    _, state = build(mesh)
    abstract, _, _ = plan(mesh, "muon")
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        checkpoints.save(state, 1, {"loss": 1.0})
        checkpoints.wait()
        with pytest.raises(ValueError, match=r"/1 does not fit this run's model, optimizer"):
            checkpoints.restore(abstract)


def test_parameters_between_stages(eight, tmp_path):
    boxed = jax.eval_shape(tiny.init, jax.random.key(0))
    _, state = build(eight)
    save_params(tmp_path / "params", jax.tree.map(jnp.zeros_like, state.params))
    save_params(tmp_path / "params", state.params)  # replaces
    target = abstract_params(boxed, make_mesh({"data": 4, "fsdp": 2}))
    loaded = load_params(tmp_path / "params", target)
    same(loaded, state.params)
    kernel = loaded["blocks"]["Dense_0"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (3, tiny.WIDTH // 2, 2 * tiny.WIDTH)


def test_parameters_that_are_not_there_or_others(eight, tmp_path):
    target = abstract_params(jax.eval_shape(tiny.init, jax.random.key(0)), eight)
    with pytest.raises(FileNotFoundError, match="no parameters at"):
        load_params(tmp_path / "params", target)
    save_params(tmp_path / "params", {"other": jnp.zeros(3)})
    with pytest.raises(ValueError, match=r"params are not those of this model"):
        load_params(tmp_path / "params", target)
    wide = jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], x.shape[-1] * 2)), target)
    save_params(tmp_path / "params", wide)
    with pytest.raises(ValueError, match=r"params are not those of this model"):
        load_params(tmp_path / "params", target)
