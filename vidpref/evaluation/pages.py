"""Pages and cards from the templates of this room."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

_TEMPLATES = Path(__file__).parent / "templates"


def fill(template: str, values: Mapping[str, Any], filters: Mapping[str, Callable] = {}) -> str:
    """Returns a template with its values; in HTML they are escaped.

    Args:
        template: name of a file in `templates`.
        values: what the template names.
        filters: functions that it applies, by name.

    Raises:
        jinja2.UndefinedError: a value is missing.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template).render(values)
