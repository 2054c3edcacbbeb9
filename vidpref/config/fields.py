"""How a field of a config is written down: default, range, meaning, effect, where it counts.

A section of the schema is a frozen dataclass whose fields are made by `field` and `section`. From
it come the `ConfigDict`s of runs (`build`), the checks of their values (`check`), the fingerprints
of stages, and the answers of `--describe`.
"""

import dataclasses
import math
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

TOUCHES = ("result", "speed", "watching", "place")
ON = "on"  # in a condition: any value but 0, False and the empty ones
PATTERN = "regular expression"  # as what a text, or every text of a tuple, may be

_SPEC = "vidpref"


@dataclasses.dataclass(frozen=True)
class Not:
    """In a condition: any value but this one, or but those of a tuple."""

    value: Any


_EFFECTS = {
    "result": "changes results",
    "speed": "changes speed and memory, not results",
    "watching": "changes what is shown or kept, not results",
    "place": "says where something lies; what lies there changes results",
}
_BOUND = re.compile(r"(>=|>) (-?[\d.]+)")
_MANY, _FEW = re.compile(r"tuple\[(.+), \.\.\.\]"), re.compile(r"tuple\[([^\[\]]+)\]")
_INTERVAL = re.compile(r"in ([\[(])(-?[\d.]+), (-?[\d.]+)([\])])")

# Path of a field (from the root; "." in front: of the field's own section) -> the values it may
# have. All paths of one mapping must hold; of several mappings one.
Condition = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a config.

    Attributes:
        default: value where no config says otherwise; its type is that of the field.
        allowed: the words it may be; or a range of numbers, "> 0", ">= 1" or "in [0, 1)", which in
            a tuple holds for every number; `PATTERN`; or "", anything of the type.
        meaning: one line.
        touches: what a change touches, one of `TOUCHES`.
        when: conditions under which the field counts; of none, always. Those that `walk` gives
            have paths from the root, and those of the sections around the field.
        kind: its type, e.g. "int | None"; set by `walk`.
        result_when: a condition under which it touches results, though otherwise it does not.
        renamed: words of earlier versions, with what they are called now.
    """

    default: Any
    allowed: str | tuple[str, ...]
    meaning: str
    touches: str
    when: tuple[Condition, ...]
    kind: str = ""
    result_when: Condition | None = None
    renamed: Mapping[str, str] | None = None

    def __post_init__(self):
        if self.touches not in TOUCHES:
            raise ValueError(f"touches={self.touches!r}: known are {', '.join(TOUCHES)}")

    @property
    def effect(self) -> str:
        """What a change touches, in words."""
        if not self.result_when:
            return _EFFECTS[self.touches]
        where = _every_text(self.result_when)
        return f"{_EFFECTS[self.touches]}, but results where {where}"

    @property
    def range(self) -> str:
        """What the value may be, in words; "" for anything of its type."""
        return " | ".join(self.allowed) if isinstance(self.allowed, tuple) else self.allowed

    def problem(self, value: Any) -> str:
        """Returns what is wrong with a value, "" if nothing is."""
        if not _is_a(self.kind, value):
            return f"must be {_KINDS.get(self.kind, self.kind)}"
        if self.renamed and value in self.renamed:
            return f"is called {self.renamed[value]!r} now"
        if isinstance(self.allowed, tuple):
            known = [word or "''" for word in self.allowed]
            return "" if value in self.allowed else f"known are {', '.join(known)}"
        if self.allowed == PATTERN:
            return next(filter(None, map(_pattern_problem, _flat(value))), "")
        numbers_in = [v for v in _flat(value) if isinstance(v, numbers.Real)]
        numbers_in = [v for v in numbers_in if not isinstance(v, bool)]
        if any(not math.isfinite(v) for v in numbers_in):
            return "must be finite"
        if self.allowed and not all(_within(v, self.allowed) for v in numbers_in):
            return f"must be {self.allowed}"
        return ""


def field(
    default: Any,
    allowed: str | tuple[str, ...],
    meaning: str,
    *,
    touches: str = "result",
    when: Condition | Sequence[Condition] = (),
    result_when: Condition | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Any:
    """Declares a field; arguments as the attributes of `Field`."""
    conditions = (when,) if isinstance(when, Mapping) else tuple(when)
    spec = Field(
        default, allowed, meaning, touches, conditions, result_when=result_when, renamed=renamed
    )
    return dataclasses.field(default=default, metadata={_SPEC: spec})


def section(kind: type, *, when: Condition | Sequence[Condition] = (), **defaults: Any) -> Any:
    """Declares a section of a section.

    Args:
        kind: dataclass of the section.
        when: conditions under which all of it counts.
        **defaults: values of its fields that replace those of the dataclass.
    """
    conditions = (when,) if isinstance(when, Mapping) else tuple(when)
    return dataclasses.field(
        default_factory=lambda: kind(**defaults), metadata={_SPEC: ("section", conditions)}
    )


def open_section(meaning: str, *, when: Condition | Sequence[Condition] = ()) -> Any:
    """Declares a section whose fields another program names, such as a network of diffusers."""
    conditions = (when,) if isinstance(when, Mapping) else tuple(when)
    return dataclasses.field(default_factory=dict, metadata={_SPEC: ("open", meaning, conditions)})


def build(schema: Any) -> ConfigDict:
    """Returns the `ConfigDict` of a section of the schema, given as an instance or a class."""
    schema = schema() if isinstance(schema, type) else schema
    config = ConfigDict()
    for part in dataclasses.fields(schema):
        value = getattr(schema, part.name)
        spec = part.metadata[_SPEC]
        if isinstance(spec, Field):
            config[part.name] = config_dict.placeholder(int) if value is None else value
        elif spec[0] == "open":
            config[part.name] = ConfigDict(value)
        else:
            config[part.name] = build(value)
    return config


def walk(schema: Any, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Yields (path, field) of every field of a schema, in order; sections hand conditions down."""
    for path, spec, conditions in _walk(schema, prefix, ({},)):
        if isinstance(spec, Field):
            yield path, dataclasses.replace(spec, when=conditions)


def open_sections(schema: Any) -> dict[str, str]:
    """Returns {path: meaning} of the sections whose fields are not in the schema."""
    return {p: s[1] for p, s, _ in _walk(schema, "", ({},)) if not isinstance(s, Field)}


def counts(spec: Field, config: ConfigDict) -> bool:
    """Whether a field counts in a config, by the conditions that `walk` gave it."""
    return not spec.when or any(
        all(_holds(config, path, wanted) for path, wanted in every.items()) for every in spec.when
    )


def condition_text(spec: Field) -> str:
    """Returns where a field counts, in words; "" for everywhere."""
    return ", or ".join(map(_every_text, spec.when))


def touches_result(spec: Field, config: ConfigDict) -> bool:
    """Whether a change of the field would change a result in this config."""
    if spec.touches == "result":
        return True
    extra = spec.result_when
    return bool(extra) and all(_holds(config, path, wanted) for path, wanted in extra.items())


def check_section(schema: Any, config: ConfigDict, where: str) -> None:
    """Refuses values out of their range in a section that stands alone.

    Args:
        schema: the section's dataclass.
        config: the section.
        where: what messages call it.

    Raises:
        ValueError: names the field, its value and its range.
    """
    for path, spec in walk(schema):
        value = lookup(config, path)
        if problem := spec.problem(value):
            raise ValueError(f"{where}.{path}={value!r}: {problem}")


def lookup(config: ConfigDict, path: str) -> Any:
    """Returns the value at a dotted path."""
    for name in path.split("."):
        config = config[name]
    return config


def plain(value: Any) -> Any:
    """Returns ConfigDicts, mappings and tuples as plain dicts and lists, in their order."""
    if isinstance(value, ConfigDict | Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def _walk(schema: Any, prefix: str, above: tuple) -> Iterator[tuple[str, Any, tuple]]:
    schema = schema() if isinstance(schema, type) else schema
    for part in dataclasses.fields(schema):
        path, spec = f"{prefix}{part.name}", part.metadata[_SPEC]
        own = spec.when if isinstance(spec, Field) else spec[-1]
        absolute = [
            {prefix + p[1:] if p.startswith(".") else p: w for p, w in every.items()}
            for every in own
        ]
        conditions = tuple(a | b for a in above for b in absolute) if absolute else above
        if isinstance(spec, Field):
            value = getattr(schema, part.name)
            known = () if conditions == ({},) else conditions
            kind = part.type.__name__ if type(part.type) is type else str(part.type)
            yield path, dataclasses.replace(spec, default=value, kind=kind), known
        elif spec[0] == "open":
            yield path, spec, conditions
        else:
            yield from _walk(getattr(schema, part.name), f"{path}.", conditions)


def _holds(config: ConfigDict, path: str, wanted: Any) -> bool:
    value = lookup(config, path)
    if wanted is ON:
        return bool(value)
    if isinstance(wanted, Not):
        return value not in _several(wanted.value)
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def _every_text(every: Condition) -> str:
    return " and ".join(f"{path} is {_wanted_text(wanted)}" for path, wanted in every.items())


def _wanted_text(wanted: Any) -> str:
    if wanted is ON:
        return "set"
    if isinstance(wanted, Not):
        return f"not {' or '.join(map(str, _several(wanted.value)))}"
    if wanted == "":
        return "not set"
    return " or ".join(map(str, wanted)) if isinstance(wanted, tuple) else str(wanted)


def _several(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _flat(part)]
    return [value]


# Kinds whose name would not tell a user what to write.
_KINDS = {
    "int": "a whole number",
    "int | None": "a whole number or None",
    "float": "a number",
    "str": "a text",
    "bool": "True or False",
    "tuple[int, int, int]": "three whole numbers, such as (1, 2, 2)",
    "tuple[int, int]": "two whole numbers, such as (0, 4)",
    "tuple[float, float]": "two numbers, such as (0.0, 1.0)",
    "tuple[int, ...]": "whole numbers in brackets, such as (1, 2)",
    "tuple[bool, ...]": "True or False in brackets, such as (True, False)",
    "tuple[str, ...]": "texts in brackets, such as ('a', 'b')",
    "tuple[tuple[int, int], ...]": "pairs of whole numbers, such as ((480, 832), (832, 480))",
}


def _is_a(kind: str, value: Any) -> bool:
    """Whether a value is of a kind, e.g. "int | None"; of kinds that are not known all are."""
    if kind.endswith(" | None"):
        return value is None or _is_a(kind.removesuffix(" | None"), value)
    if every := _MANY.fullmatch(kind):
        return isinstance(value, list | tuple) and all(_is_a(every[1], v) for v in value)
    if few := _FEW.fullmatch(kind):
        kinds = few[1].split(", ")
        same_length = isinstance(value, list | tuple) and len(value) == len(kinds)
        return same_length and all(map(_is_a, kinds, value))
    if kind in ("int", "float"):
        number = numbers.Integral if kind == "int" else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, {"str": str, "bool": bool}.get(kind, object))


def _pattern_problem(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        return f"{text!r} is no regular expression: {error}"
    return ""


def _within(value: float | int, allowed: str) -> bool:
    if bound := _BOUND.fullmatch(allowed):
        low = float(bound[2])
        return value > low or (bound[1] == ">=" and value == low)
    if interval := _INTERVAL.fullmatch(allowed):
        low, high = float(interval[2]), float(interval[3])
        above = value > low or (interval[1] == "[" and value == low)
        below = value < high or (interval[4] == "]" and value == high)
        return above and below
    raise ValueError(f"{allowed!r} is no range: write '> 0', '>= 1' or 'in [0, 1)'")
