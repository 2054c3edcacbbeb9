"""Every field of the schema: a value that it cannot have is refused by name, by the config alone.

What only several fields say, or files, is in `tests/runs/test_checks.py` and `test_late_fields.py`.
"""

import pytest

from vidpref.config.by_name import ConfigError, named_config, read_config
from vidpref.config.fields import PATTERN, lookup
from vidpref.config.overrides import apply_overrides
from vidpref.config.schema import DTYPES, FIELDS, counts_in, new_config

# A value of another kind, by the kind of a field.
OTHER_KIND = {
    "int": [1.5, "1", True, None],
    "int | None": [1.5, "1", True],
    "float": ["1", True, None],
    "bool": ["True", 1, None],
    "str": [1, None, ("a",)],
    "tuple[int, ...]": [(1.5,), ("1",), (True,), 1],
    "tuple[bool, ...]": [(1,), ("True",), True],
    "tuple[str, ...]": [(1,), (None,), "a"],
    "tuple[int, int, int]": [(1, 1), (1, 1, 1, 1), (1, 1, "1"), 1],
    "tuple[int, int]": [1, (1,), (1, 2, 3), (1.5, 2)],
    "tuple[float, float]": [(0.0,), (0.0, 0.5, 1.0), ("a", "b"), 0.5],
    "tuple[tuple[int, int], ...]": [(16, 16), ((16,),), ((16, 16, 16),), (("a", "b"),)],
}
PLAIN = [path for path, spec in FIELDS.items() if spec.allowed == ""]


def out_of_range(spec):
    """Values that a range, a choice or a pattern forbids."""
    if isinstance(spec.allowed, tuple):
        return ["nonsense", *(["bf16", "fp16"] if spec.allowed == DTYPES else [])]
    if spec.allowed == PATTERN:
        return ["("] if spec.kind == "str" else [("(",)]
    numbers = [-2] if spec.allowed else []
    if "float" in spec.kind:
        numbers = [*map(float, numbers), float("nan"), float("inf")]
    return [fit(spec.kind, number) for number in numbers]


def fit(kind, number):
    if kind == "tuple[tuple[int, int], ...]":
        return ((number, 16),)
    count = 1 if "..." in kind else kind.count(",") + 1
    return (number,) * count if kind.startswith("tuple") else number


@pytest.mark.parametrize("path", FIELDS)
def test_values_that_a_field_cannot_have_are_refused(path):
    spec = FIELDS[path]
    wrong = out_of_range(spec)
    for value in [*OTHER_KIND[spec.kind], *wrong]:
        assert spec.problem(value), (path, value)
    assert wrong or path in PLAIN
    assert not spec.problem(spec.default)


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (["align.betta=1", "rondos=2"], ["did you mean align.beta", "did you mean rounds"]),
        (["align.beta=x", "rounds=y", "seed=1"], ["align.beta", "rounds"]),
        (["align.beta=0", "rounds=0"], ["align.beta=0.0: must be > 0", "rounds=0: must be >= 1"]),
        (
            ["align.eta=2", "align.gamma=3"],
            ["align.eta would change nothing", "align.gamma would change nothing"],
        ),
        (["evaluate.best_of=('a',)"], ["must be whole numbers in brackets, such as (1, 2)"]),
        (["align.parts=('[',)"], ["'[' is no regular expression"]),
        (["align.time_range=(0.5,)"], ["must be two numbers, such as (0.0, 1.0)"]),
    ],
)
def test_all_that_is_wrong_is_said_at_once(overrides, messages):
    with pytest.raises(ConfigError) as caught:
        named_config("dpo_aif:mini", overrides)
    for message in messages:
        assert message in str(caught.value)


TYPES = [path for path, spec in FIELDS.items() if spec.allowed == DTYPES]


@pytest.mark.parametrize("path", TYPES)
@pytest.mark.parametrize(("spelling", "meant"), [("bf16", "bfloat16"), ("fp32", "float32")])
def test_short_names_of_types_are_read(path, spelling, meant):
    counts = {
        "text.dtype": ["text.name=t5"],
        "reward.video_reward.dtype": ["reward.name=video_reward"],
        "reward.vlm_judge.dtype": ["reward.name=vlm_judge"],
        "reward.metrics.dtype": ["reward.name=metrics"],
        "reward.metrics.hps_v3.dtype": ["reward.name=metrics"],
        "judge.export_dtype": ["judge.name=video_reward"],
    }
    config = named_config("dpo_aif:mini", [*counts.get(path, []), f"{path}={spelling}"])
    assert lookup(config, path) == meant
    with pytest.raises(ConfigError, match=r"'fp16': known are float32, bfloat16"):
        apply_overrides(config, [f"{path}=fp16"])


def test_there_are_types_to_spell():
    assert set(TYPES) >= {"compute_dtype", "text.dtype"}


@pytest.mark.parametrize("text", ["", "a: [", "- 1\n- 2", "42", "align: 3", "align: {beta: x}"])
def test_a_config_that_is_damaged_is_named(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged, or of another version"):
        read_config(tmp_path)


def test_fields_that_do_not_count_may_have_any_value():
    config = new_config()
    config.align.method = "sft"
    config.align.beta = -1.0
    assert not counts_in("align.beta", config)
