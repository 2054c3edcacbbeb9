"""Low-rank adapters beside frozen dense layers (LoRA, Hu et al. 2021), by method interception.

The networks know nothing of them. Adapters are a variable collection of their own: a dense layer
whose scope holds "a" and "b" there gets their product added to its output, and "bias" where there
is one; the scan over blocks slices them as it slices the parameters. Base parameters keep their
paths, and a call without adapters is the base itself.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from vidpref.config.nearest import nearest
from vidpref.models.dense import product
from vidpref.models.frozen import Int8, with_scales
from vidpref.typing import Array, Key, PyTree

COLLECTION = "lora"


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Which layers are adapted and how: y + alpha / rank * (dropout(x) a b + bias).

    Attributes:
        rank: columns of a, rows of b. Adapters of several ranks have zeros up to the largest: no
            output and no gradient is of those.
        alpha: strength; the product is scaled by alpha / rank.
        targets: regular expressions searched in the kernels' paths, such as
            "(self|cross)/(qkv|query|key_value|out)/".
        dropout: probability that an input feature of the adapter (not of the layer) is zeroed.
        zero: the factor that starts at zero, "a" or "b".
        biased: targets whose adapters have a bias too, as some files have; it is not trained.
        padded: whether ranks are those of the widest adapter, and a layer may be narrower.

    Raises:
        ValueError: a value that cannot work.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    dropout: float = 0.0
    zero: str = "b"
    biased: tuple[str, ...] = ()
    padded: bool = False

    def __post_init__(self):
        rules = {
            "rank": (self.rank >= 1, "1 or more"),
            "alpha": (0 < self.alpha < float("inf"), "a positive number"),
            "targets": (bool(self.targets), "one regular expression or more"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
            "zero": (self.zero in ("a", "b"), "'a' or 'b'"),
        }
        for field, (good, wanted) in rules.items():
            if not good:
                raise ValueError(f"lora.{field}={getattr(self, field)!r}: must be {wanted}")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    def init(self, key: Key[Array, ""], base: PyTree) -> PyTree:
        """Returns boxed adapters: {.., "a": [.., in, rank], "b": [.., rank, out]} a layer.

        Those that `biased` matches have a "bias" [.., out] of zeros besides.

        The factor that does not start at zero is uniform in +-1/sqrt(fan in), as in PEFT. The
        product is zero, so training starts at the base.

        Args:
            key: key of the random factor.
            base: parameters with their logical names; abstract ones (`jax.eval_shape`) will do.

        Raises:
            ValueError: a target that matches no dense layer, or a rank above a layer's width.
        """
        kernels = self._kernels(base)
        flat = {}
        for (path, kernel), own in zip(
            kernels.items(), jax.random.split(key, len(kernels)), strict=True
        ):
            names, shape = _names(kernel), nn.unbox(kernel).shape
            first, last = _dimensions(names)
            fan_in, fan_out = math.prod(shape[first:last]), math.prod(shape[last:])
            if self.rank > min(fan_in, fan_out) and not self.padded:
                raise ValueError(
                    f"lora.rank={self.rank} is more than {'/'.join(path)} "
                    f"[{fan_in}, {fan_out}] can use"
                )
            a, b = (*shape[:last], self.rank), (*shape[:first], self.rank, *shape[last:])
            if self.zero == "b":
                values = _uniform(own, a, fan_in), jnp.zeros(b)
            else:
                values = jnp.zeros(a), _uniform(own, b, self.rank)
            axes = (*names[:last], None), (*names[:first], None, *names[last:])
            for factor, value, axis_names in zip("ab", values, axes, strict=True):
                flat[*path[:-1], factor] = nn.LogicallyPartitioned(value, axis_names)
            if any(re.search(target, "/".join(path)) for target in self.biased):
                bias = jnp.zeros((*shape[:first], *shape[last:]))
                flat[*path[:-1], "bias"] = nn.LogicallyPartitioned(
                    bias, (*names[:first], *names[last:])
                )
        return unflatten_dict(flat)

    def _kernels(self, base: PyTree) -> dict[tuple[str, ...], Any]:
        """The kernels of dense layers that a target matches."""
        kernels = {
            "/".join(path): path
            for path, leaf in flatten_dict(base).items()
            if path[-1] == "kernel" and _dimensions(_names(leaf)) is not None
        }
        chosen = set()
        for target in self.targets:
            found = {name for name in kernels if re.search(target, name)}
            if not found:
                hint = nearest(target, kernels, cutoff=0.3)
                raise ValueError(f"lora.targets: {target!r} matches no dense layer; {hint}")
            chosen |= found
        flat = flatten_dict(base)
        return {kernels[name]: flat[kernels[name]] for name in sorted(chosen)}


def with_lora(apply: Callable, spec: LoRA) -> Callable:
    """Returns `adapted(variables, adapters, *args, dropout_rng=None)`, else like `apply`.

    `adapters=None` is `apply` itself, and so the reference policy needs no second base. Dropout
    needs `dropout_rng`; without it there is none, as in evaluation.

    Args:
        apply: `module.apply`, or a function that calls it with the variables it is given and
            hands on `rngs`.
        spec: targets, rank and scale of the adapters.

    Raises:
        ValueError: from `adapted`, adapters that do not fit the base.
    """

    @functools.wraps(apply)
    def adapted(
        variables: dict[str, PyTree],
        adapters: PyTree | None,
        *args: Any,
        dropout_rng: Array | None = None,
        **kwargs: Any,
    ) -> Any:
        if adapters is None:
            return apply(variables, *args, **kwargs)
        for _ in _pairs(variables["params"], adapters, spec):
            pass  # Linen would pass over an adapter without a layer in silence
        if dropout_rng is not None:
            kwargs["rngs"] = {**kwargs.get("rngs", {}), "dropout": dropout_rng}
        with nn.intercept_methods(functools.partial(_intercept, spec)):
            return apply({**variables, COLLECTION: adapters}, *args, **kwargs)

    return adapted


@flax.struct.dataclass
class Adapted:
    """What `apply_network` takes in the place of parameters.

    Attributes:
        base: parameters of the whole network; kernels may be `Int8`.
        adapters: adapters of `spec`; None for the base itself.
        spec: targets, rank and scale of the adapters.
        dropout_rng: None switches dropout off.
    """

    base: PyTree
    adapters: PyTree
    spec: LoRA = flax.struct.field(pytree_node=False)
    dropout_rng: PyTree = None


def apply_network(module: nn.Module, params: PyTree, *inputs: Any, **options: Any) -> Any:
    """Returns the output of a network that may have adapters.

    Args:
        module: the network.
        params: its parameters, kernels as they are or `Int8`; or `Adapted`.
        *inputs: inputs of the network.
        **options: options of `module.apply`, such as `method`.

    Raises:
        ValueError: adapters that do not fit the base.
    """
    if not isinstance(params, Adapted):
        return with_scales(module.apply)({"params": params}, *inputs, **options)
    adapted = with_lora(with_scales(module.apply), params.spec)
    variables, rng = {"params": params.base}, params.dropout_rng
    return adapted(variables, params.adapters, *inputs, dropout_rng=rng, **options)


def merge(base: PyTree, adapters: PyTree, spec: LoRA) -> PyTree:
    """Returns the base with alpha / rank a b added to its kernels, computed in float32.

    Args:
        base: parameters, unboxed.
        adapters: adapters of this base, unboxed.
        spec: targets, rank and scale of the adapters.

    Raises:
        ValueError: adapters that do not fit the base.
    """
    flat = flatten_dict(base)
    for pair in _pairs(base, adapters, spec):
        changes = _changes(spec, pair.kernel.shape, pair.a, pair.b, pair.bias)
        for path, change in zip(pair.changed, changes, strict=True):
            flat[path] = _sum(flat[path], change)
    return unflatten_dict(flat)


def merge_into(base: PyTree, adapters: PyTree, spec: LoRA) -> PyTree:
    """Returns the base with the adapters merged into it; takes the memory of `base`.

    A change and its sum are programs of their own: each rounds, as PyTorch does, where one program
    would multiply and add with one rounding.

    Args:
        base: parameters, unboxed, on devices.
        adapters: adapters of this base, unboxed, on devices or on the host.
        spec: targets, rank and scale of the adapters.

    Raises:
        ValueError: adapters that do not fit the base.
    """
    flat = flatten_dict(base)
    add = jax.jit(_sum, donate_argnums=0)
    for pair in _pairs(base, adapters, spec):
        change = jax.jit(
            functools.partial(_changes, spec, pair.kernel.shape),
            out_shardings=tuple(flat[path].sharding for path in pair.changed),
        )
        changes = change(pair.a, pair.b, pair.bias)
        for path, leaf in zip(pair.changed, changes, strict=True):
            flat[path] = add(flat[path], leaf)
    return unflatten_dict(flat)


def _changes(
    spec: LoRA, shape: tuple[int, ...], a: Array, b: Array, bias: Array | None
) -> tuple[Array, ...]:
    """What is added to a kernel of this shape, and to the bias where there is one, in float32."""
    first = a.ndim + b.ndim - 2 - len(shape)
    a = a.astype(jnp.float32).reshape(*a.shape[:first], -1, spec.rank)
    b = b.astype(jnp.float32).reshape(*b.shape[:first], spec.rank, -1)
    product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    kernel = spec.scale * product.reshape(shape)
    return (kernel,) if bias is None else (kernel, spec.scale * bias.astype(jnp.float32))


def _sum(parameter: Array, change: Array) -> Array:
    return (parameter.astype(jnp.float32) + change).astype(parameter.dtype)


def _intercept(spec: LoRA, next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
    out = next_fun(*args, **kwargs)
    layer = context.module
    if context.method_name != "__call__" or not layer.has_variable(COLLECTION, "a"):
        return out
    x = args[0] if args else kwargs["inputs"]
    a, b = (layer.get_variable(COLLECTION, factor) for factor in "ab")
    if x.shape[1 - a.ndim :] != a.shape[:-1]:
        raise ValueError(
            f"lora: {'/'.join(layer.path)} does not sum over its input's last axes: "
            f"input {x.shape}, a {a.shape}"
        )
    if spec.dropout and layer.has_rng("dropout"):
        kept = jax.random.bernoulli(layer.make_rng("dropout"), 1 - spec.dropout, x.shape)
        x = jnp.where(kept, x / (1 - spec.dropout), 0)
    x, a, b = nn.dtypes.promote_dtype(x, a, b, dtype=layer.dtype)
    low = x.reshape(*x.shape[: x.ndim + 1 - a.ndim], -1)  # one axis of inputs, and of outputs
    low = product(low, a.reshape(-1, spec.rank))
    out += (spec.scale * product(low, b.reshape(spec.rank, -1))).reshape(out.shape)
    if layer.has_variable(COLLECTION, "bias"):
        # held: blocks of a stack that have none would learn one
        bias = jax.lax.stop_gradient(layer.get_variable(COLLECTION, "bias"))
        bias = (spec.scale * bias).astype(out.dtype)
        out += bias.reshape((1,) * (out.ndim - bias.ndim) + bias.shape)
    return out


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The adapter of a layer, and where the parameters are that it changes: kernel and bias."""

    kernel: Array | Int8
    a: Array
    b: Array
    bias: Array | None
    changed: list[tuple[str, ...]]


def _pairs(base: PyTree, adapters: PyTree, spec: LoRA) -> Iterator[_Pair]:
    kernels, flat = flatten_dict(base), flatten_dict(adapters)
    for layer in sorted({path[:-1] for path in flat}):
        path = (*layer, "kernel")
        kernel, a, b = kernels.get(path), flat.get((*layer, "a")), flat.get((*layer, "b"))
        if kernel is None or a is None or b is None:
            missing = [n for n, x in (("kernel", kernel), ("a", a), ("b", b)) if x is None]
            raise ValueError(f"lora: {'/'.join(layer)} has no {' and no '.join(missing)}")
        first = a.ndim + b.ndim - 2 - kernel.ndim
        fits = (
            first >= 0
            and a.shape[-1] == b.shape[first] == spec.rank
            and a.shape[:first] == b.shape[:first]
            and (*a.shape[:-1], *b.shape[first + 1 :]) == kernel.shape
        )
        if not fits:
            raise ValueError(
                f"lora: {'/'.join(path)} {kernel.shape} does not fit a {a.shape}, b {b.shape} "
                f"of rank {spec.rank}"
            )
        bias, own = flat.get((*layer, "bias")), kernels.get((*layer, "bias"))
        if bias is not None and (own is None or own.shape != bias.shape):
            raise ValueError(
                f"lora: {'/'.join(layer)} has "
                + ("no bias" if own is None else f"a bias {own.shape}")
                + f", its adapter one of {bias.shape}"
            )
        yield _Pair(kernel, a, b, bias, [path] if bias is None else [path, (*layer, "bias")])


def _names(leaf: Any) -> tuple[str | None, ...]:
    if isinstance(leaf, nn.Partitioned):
        return tuple(leaf.names)
    return (None,) * leaf.ndim


def _dimensions(names: tuple[str | None, ...]) -> tuple[int, int] | None:
    """Where a dense kernel's inputs and its outputs begin; None for any other kernel."""
    first = next((i for i, name in enumerate(names) if name != "layers"), len(names))
    own = names[first:]
    if len(own) < 2 or "kernel" in own:
        return None
    if len(own) == 2 or own[0] == "in":
        return first, first + 1
    return (first, len(names) - 1) if own[-1] == "out" else None


def _uniform(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    return jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)
