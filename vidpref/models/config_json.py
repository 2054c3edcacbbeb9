"""The config.json of a diffusers or transformers component as fields of a Linen module."""

import types
import typing
from collections.abc import Mapping
from typing import Any

from vidpref.config.nearest import nearest

# Fields of our modules that are choices of a run; no config of the originals has them.
OURS = frozenset({"attention", "remat", "unroll", "dtype", "tiled", "tile_size", "tile_stride"})
OURS |= {"tile_overlap", "bias_in_every_block", "parent", "name"}
# What may stand in the config of any network and says how the file was written or trained:
# the type of its numbers, and the state of the `EMAModel` that diffusers saved it from.
WRITTEN = frozenset({"architectures", "dtype", "torch_dtype", "transformers_version"})
WRITTEN |= {"decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step"}
WRITTEN |= {"use_ema_warmup"}
_LARGEST = 10**6  # size of a layer; larger ones are slips, which would take hours to be refused


def read_config(
    module: type,
    config: Mapping[str, Any],
    *,
    fixed: Mapping[str, Any],
    ignored: tuple[str, ...] = (),
    **options: Any,
) -> Any:
    """Returns the module with the fields that the config has.

    Fields that the config lacks keep the module's defaults, which must be the original's. Unknown
    fields that are null are passed over, as none of them asks for anything.

    Args:
        module: a Linen module or a dataclass; its fields are named as in the config, and numbers
            are sizes and scales, above 0.
        config: a component's config.json; names that begin with "_" say who wrote it.
        fixed: fields of the original whose other values `module` does not implement.
        ignored: fields of the original that do not change the computation, besides `WRITTEN`.
        **options: further fields of the module, which the original does not have.

    Raises:
        ValueError: names every field that would compute something else, or whose value cannot be.
    """
    hints = typing.get_type_hints(module)
    known = set(module.__dataclass_fields__) - OURS
    fields, refused = {}, []
    for name, value in config.items():
        value = tuple(value) if isinstance(value, list) else value
        if name in fixed:
            if value != fixed[name]:
                refused.append(f"{name}={value!r} is not implemented, only {fixed[name]!r}")
        elif name in known:
            if _fits(value, hints[name]):
                fields[name] = _typed(value, hints[name])
            else:
                refused.append(f"{name}={value!r} must be {_words(hints[name])}")
        elif not (name in ignored or name in WRITTEN or name.startswith("_") or value is None):
            hint = nearest(name, sorted({*known, *fixed}))
            refused.append(f"{name}={value!r} is unknown, {hint}")
    if refused:
        raise ValueError(
            f"the config of {config.get('_class_name', module.__name__)} asks for what "
            f"{module.__name__} does not compute: {'; '.join(refused)}"
        )
    return module(**{**fields, **options})


def _fits(value: Any, hint: Any, lowest: float = 0.0) -> bool:
    """Whether a value is of a type, with numbers above `lowest` and sizes that can be."""
    if isinstance(hint, types.UnionType):
        return any(_fits(value, part, lowest) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        parts = typing.get_args(hint)
        if parts[-1] is ...:
            parts = (parts[0],) * len(value)
        if len(value) != len(parts) or not value:
            return False
        below = float("-inf") if float in parts else lowest  # means of channels may be below 0
        return all(_fits(v, part, below) for v, part in zip(value, parts, strict=True))
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value > lowest
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST
    return isinstance(value, hint)


def _typed(value: Any, hint: Any) -> Any:
    """A value that fits, whole numbers as floats where those are wanted."""
    if isinstance(value, tuple):
        return tuple(_typed(part, typing.get_args(hint)[0]) for part in value)
    return float(value) if hint is float else value


def _words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_words(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        *parts, last = typing.get_args(hint)
        kind = parts[0] if last is ... else last
        each = "a number" if kind is float else _words(kind)
        return f"a list, each {each}" if last is ... else f"a list of {len(parts) + 1}, each {each}"
    names = {
        int: f"a whole number from 1 to {_LARGEST}",
        float: "a number above 0",
        bool: "true or false",
    }
    return {**names, str: "a text", type(None): "null"}[hint]
