"""The config.json of a diffusers or transformers component as fields of a Linen module."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from vidpref.config.nearest import nearest


def read_config(
    module: type[nn.Module],
    config: Mapping[str, Any],
    *,
    fixed: Mapping[str, Any],
    ignored: tuple[str, ...] = (),
    **options: Any,
) -> nn.Module:
    """Returns the module with the fields that the config has.

    Fields that the config lacks keep the module's defaults, which must be the original's.

    Args:
        module: its fields are named as in the config.
        config: a component's config.json; names that begin with "_" say who wrote it.
        fixed: fields of the original whose other values `module` does not implement.
        ignored: fields of the original that do not change the computation.
        **options: further fields of the module, which the original does not have.

    Raises:
        ValueError: names every field that would compute something else.
    """
    known = set(module.__dataclass_fields__) - {"parent", "name"}
    fields, refused = {}, []
    for name, value in config.items():
        value = tuple(value) if isinstance(value, list) else value
        if name in fixed:
            if value != fixed[name]:
                refused.append(f"{name}={value!r} is not implemented, only {fixed[name]!r}")
        elif name in known:
            fields[name] = value
        elif name not in ignored and not name.startswith("_"):
            hint = nearest(name, sorted({*known, *fixed}))
            refused.append(f"{name}={value!r} is unknown, {hint}")
    if refused:
        raise ValueError(
            f"the config of {config.get('_class_name', module.__name__)} asks for what "
            f"{module.__name__} does not compute: {'; '.join(refused)}"
        )
    return module(**{**fields, **options})
