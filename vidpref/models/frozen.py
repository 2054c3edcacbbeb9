"""Weights that stay as they are, in fewer bytes: in the type that layers compute in, or int8.

A layer that computes in bfloat16 casts its float32 kernel and bias at every call; kept in bfloat16
they give the same numbers. Int8 is for the kernels of repeated blocks: integers times one scale an
output feature (weight only, symmetric, rounded to the nearest). The networks know nothing of it.
"""

import contextvars
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from vidpref.models.convolution import PatchEmbedding, SpatialConv
from vidpref.typing import Array, PyTree

SCALES = "scales"  # variable collection of the scales, beside "params"
_LEVELS = 127
_CASTING = (nn.Dense, PatchEmbedding, SpatialConv)  # all they have is cast to their dtype


@flax.struct.dataclass
class Int8:
    """A kernel [.., in, out] as integers times a scale an output; a leaf among parameters.

    Attributes:
        values: int8 [.., in, out].
        scale: float32 [.., out].
    """

    values: PyTree
    scale: PyTree

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the kernel."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """Number of the kernel's dimensions."""
        return self.values.ndim


_watched: contextvars.ContextVar[bool] = contextvars.ContextVar("watched", default=False)


def layers_are_watched() -> bool:
    """Whether a network's layers must be called: then its `init` may not come from a cache."""
    return _watched.get()


class Keeping:
    """How the parameters of a frozen network are kept.

    Args:
        network: key -> parameters of the network, boxed with their logical names, by a call of a
            Linen module's `init`.
        kind: "float32" as they are stored; "compute" in the type that their layer computes in,
            where it casts them; "int8" like that, and kernels of repeated blocks as `Int8`.
    """

    def __init__(self, network: Callable[[Array], PyTree], kind: str):
        self._forms: dict[tuple[str, ...], Any] = {}
        if kind != "float32":
            self._forms = _forms(network, int8=kind == "int8")

    def one(self, path: tuple[str, ...], leaf: Any) -> Any:
        """Returns a parameter in the form in which it is kept; abstract from abstract, and inside
        of a program as a part of it.

        Args:
            path: its path.
            leaf: as it is stored, or kept already.
        """
        form = self._forms.get(path)
        if form is None or isinstance(leaf, Int8) or leaf.dtype == form:
            return leaf
        make = quantise if form == jnp.int8 else lambda x: x.astype(form)
        if isinstance(leaf, jax.core.Tracer):
            return make(leaf)
        place = _shardings(leaf, form)
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.jit(make, out_shardings=place)(leaf)
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            jax.eval_shape(make, leaf),
            place,
        )

    def all(self, params: PyTree) -> PyTree:
        """Returns parameters in the form in which they are kept; abstract from abstract."""
        flat = flatten_dict(params)
        return unflatten_dict({path: self.one(path, leaf) for path, leaf in flat.items()})

    def take(self, params: PyTree) -> PyTree:
        """Returns the same, and frees what is kept in another form one by one.

        Args:
            params: on devices; nobody may use them afterwards.
        """
        flat = flatten_dict(params)
        for path, leaf in flat.items():
            flat[path] = self.one(path, leaf)
            if flat[path] is not leaf:
                jax.block_until_ready(flat[path])
                leaf.delete()
        return unflatten_dict(flat)


def quantise(kernel: Array) -> Int8:
    """Returns a kernel [.., in, out] as int8, off by at most half a scale.

    The scale of an output is its largest weight / 127; that of an output of zeros is 1.
    """
    wide = kernel.astype(jnp.float32)
    largest = jnp.abs(wide).max(axis=-2, keepdims=True)
    scale = jnp.where(largest > 0, largest / _LEVELS, 1.0)
    values = jnp.clip(jnp.round(wide / scale), -_LEVELS, _LEVELS)
    return Int8(values.astype(jnp.int8), scale.squeeze(-2))


def check_stored(params: PyTree, boxed: PyTree) -> None:
    """Refuses to merge into weights that were rounded: a sum of theirs would be rounded twice.

    Args:
        params: parameters of a network.
        boxed: those of its `init`, abstract.

    Raises:
        ValueError: a parameter of another type.
    """
    for path, leaf in flatten_dict(nn.unbox(boxed)).items():
        found = flatten_dict(params)[path]
        if isinstance(found, Int8) or found.dtype != leaf.dtype:
            raise ValueError(
                f"{'/'.join(path)} is not kept as {leaf.dtype}, as it is stored: adapters are "
                "merged into the stored weights alone"
            )


def with_scales(apply: Callable) -> Callable:
    """Returns `apply` that also takes parameters with `Int8` among them.

    Args:
        apply: `module.apply`, or a function that calls it with the variables it is given.
    """

    @functools.wraps(apply)
    def scaled(variables: dict[str, PyTree], *args: Any, **kwargs: Any) -> Any:
        params, scales = _split(variables["params"])
        if not scales:
            return apply(variables, *args, **kwargs)
        with nn.intercept_methods(_times_scale):  # inside of other interceptors, next to the layer
            return apply({**variables, "params": params, SCALES: scales}, *args, **kwargs)

    return scaled


def _split(params: PyTree) -> tuple[PyTree, PyTree]:
    """Parameters with plain kernels, and the scales of these.

    A bias is divided by the scale, as the layer's whole output is multiplied by it.
    """
    flat = flatten_dict(params)
    scales = {path: leaf.scale for path, leaf in flat.items() if isinstance(leaf, Int8)}
    for path, scale in scales.items():
        flat[path] = flat[path].values
        bias = (*path[:-1], "bias")
        if bias in flat:
            flat[bias] = flat[bias].astype(jnp.float32) / scale
    return unflatten_dict(flat), unflatten_dict(scales)


def _times_scale(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    out = next_fun(*args, **kwargs)
    layer = context.module
    if context.method_name != "__call__" or not layer.has_variable(SCALES, "kernel"):
        return out
    scale = layer.get_variable(SCALES, "kernel").reshape((1,) * (out.ndim - 1) + (-1,))
    return (out.astype(jnp.float32) * scale).astype(out.dtype)


def _forms(network: Callable[[Array], PyTree], *, int8: bool) -> dict[tuple[str, ...], Any]:
    """The type of every parameter that its layer casts, int8 for those that are to be integers."""
    layers = {}

    def watch(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        layer = context.module
        if isinstance(layer, _CASTING) and layer.dtype is not None:
            layers[layer.path] = layer
        return next_fun(*args, **kwargs)

    watched = _watched.set(True)
    try:
        with nn.intercept_methods(watch):
            boxed = jax.eval_shape(lambda key: network(key), jax.random.key(0))
    finally:
        _watched.reset(watched)
    forms = {}
    for path, leaf in flatten_dict(boxed).items():
        layer = layers.get(path[:-1])
        if layer is None:
            continue
        names = leaf.names if isinstance(leaf, nn.Partitioned) else ()
        repeated = isinstance(layer, nn.Dense) and path[-1] == "kernel" and "layers" in names
        forms[path] = jnp.dtype(jnp.int8 if int8 and repeated else layer.dtype)
    return forms


def _shardings(leaf: Any, form: Any) -> Any:
    """Where the kept form of a parameter lies: as the parameter, a scale as its outputs."""
    own: Sharding | None = getattr(leaf, "sharding", None)
    if form != jnp.int8:
        return own
    if not isinstance(own, NamedSharding):
        return Int8(own, own)
    *first, _, last = (*own.spec, *[None] * (leaf.ndim - len(own.spec)))
    return Int8(own, NamedSharding(own.mesh, PartitionSpec(*first, last)))
