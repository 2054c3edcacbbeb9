"""What training carries from step to step, born on its devices."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.core import meta
from jax.sharding import Mesh

from vidpref.training.sharding import param_shardings, replicated, shardings_like_params
from vidpref.typing import Array, PyTree


@flax.struct.dataclass
class TrainState:
    """The whole state of a run; also the tree of its shardings.

    Attributes:
        step: updates done, int32.
        params: trainable parameters, unboxed.
        opt_state: state of the optimizer.
        ema: exponential moving average of `params`, or None.
        key: typed PRNG key; step n uses `fold_in(key, n)`.
        reference: a reference policy that follows `params` slowly, or None.
    """

    step: PyTree
    params: PyTree
    opt_state: PyTree
    ema: PyTree
    key: PyTree
    reference: PyTree = None


def state_shardings(
    init: Callable[[Array], PyTree],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    with_ema: bool,
    with_reference: bool = False,
) -> tuple[TrainState, TrainState]:
    """Returns the abstract state and the sharding of each of its arrays; allocates nothing.

    Args:
        init: key -> parameters, boxed or not.
        optimizer: its state lies where the parameters lie.
        mesh: from `make_mesh`.
        with_ema: whether the state keeps a moving average.
        with_reference: whether it keeps a reference policy that follows.
    """
    boxed = jax.eval_shape(init, jax.random.key(0))
    abstract = jax.eval_shape(
        _builder(init, optimizer, with_ema, with_reference), jax.random.key(0)
    )
    params = param_shardings(boxed, mesh)
    shardings = TrainState(
        step=replicated(mesh),
        params=params,
        opt_state=shardings_like_params(abstract.opt_state, abstract.params, params, mesh),
        ema=params if with_ema else None,
        key=replicated(mesh),
        reference=params if with_reference else None,
    )
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings
    )
    return abstract, shardings


def create_state(
    init: Callable[[Array], PyTree],
    optimizer: optax.GradientTransformation,
    shardings: TrainState,
    *,
    seed: int,
    init_from: PyTree | None = None,
) -> TrainState:
    """Returns the state of step 0; no parameter exists unsharded at any time.

    Args:
        init: key -> parameters, boxed or not.
        optimizer: makes its own state.
        shardings: from `state_shardings`.
        seed: seed of the parameters and of the training noise.
        init_from: parameters to start from instead. They are copied: the training step donates
            its state, while the caller may keep these as a reference policy.

    Raises:
        ValueError: `init_from` has other parameters than `init` makes.
    """
    key = jax.random.key(seed)
    kept = shardings.ema is not None, shardings.reference is not None
    if init_from is None:
        build = _builder(init, optimizer, *kept)
        return jax.jit(build, out_shardings=shardings)(key)
    check_same_params(init_from, meta.unbox(jax.eval_shape(init, key)))
    given = jax.device_put(init_from, shardings.params)

    def build_from(key: Array, params: PyTree) -> TrainState:
        copies = jax.tree.map(jnp.copy, params)
        return _builder(lambda _: copies, optimizer, *kept)(key)

    return jax.jit(build_from, out_shardings=shardings)(key, given)


def check_same_params(given: PyTree, expected: PyTree) -> None:
    """Raises ValueError naming the first parameters that are missing, unknown or of another shape.

    Args:
        given: parameters.
        expected: parameters, abstract or not.
    """
    shapes = [
        {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (given, expected))
    ]
    have, want = shapes
    problems = [f"{name} {want[name]} is missing" for name in want.keys() - have.keys()]
    problems += [f"{name} {have[name]} is not in the model" for name in have.keys() - want.keys()]
    problems += [
        f"{name} has shape {have[name]}, the model {want[name]}"
        for name in have.keys() & want.keys()
        if have[name] != want[name]
    ]
    if problems:
        listed = "; ".join(sorted(problems)[:5])
        raise ValueError(f"the given parameters do not fit the model ({len(problems)}): {listed}")


def _builder(
    init: Callable[[Array], PyTree],
    optimizer: optax.GradientTransformation,
    with_ema: bool,
    with_reference: bool,
) -> Callable[[Array], TrainState]:
    def build(key: Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        params = meta.unbox(init(init_key))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, params) if with_ema else None,
            key=train_key,
            reference=jax.tree.map(jnp.copy, params) if with_reference else None,
        )

    return build
