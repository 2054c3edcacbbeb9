"""Random fields and flags with random values: taken, or refused in words that name them."""

import random

import jax
import pytest
from absl import flags

from tests.data_folders import paths_for
from tests.launch.programs import PROGRAMS, Launcher
from vidpref.config.by_name import config_names
from vidpref.config.fields import PATTERN
from vidpref.config.schema import FIELDS, counts_in
from vidpref.generation.adopt import load_config
from vidpref.runs import checks
from vidpref.stages import planning
from vidpref.training.sharding import make_mesh

# Networks that are built in no time; later overrides count.
SMALL = {
    "dit": ["model.dit.width=32", "model.dit.layers=4", "model.dit.head_dim=16"],
    "unet3d": [
        *("model.unet3d.features=(32,)", "model.unet3d.blocks=(1,)"),
        *("model.unet3d.spatial=(False,)", "model.unet3d.temporal=(True,)"),
        "model.unet3d.cross=(True,)",
    ],
}
NUMBERS = ["0", "-1", "1", "2", "3", "7", "16", "64", "1000", "1.5", "nan", "inf", "1e9", "1e-9"]
WORDS = ["x", "", " ", "/", "a/b", "(", "[a", "é", "a b", "a=b", "--x", "None", "\0", "x" * 300]
NAMES = [
    "accept",
    "loss",
    "-loss",
    "full",
    "none",
    "bf16",
    "dit",
    "st_dit",
    "unet3d",
    "words",
    "t5",
]
TUPLES = [
    "()",
    "(1,)",
    "(2, 2)",
    "(1, 1, 1)",
    "(0, 1)",
    "(True, False)",
    "('accept',)",
    "(0.1, 0.2)",
]
ODD_TUPLES = ["('(',)", "(None,)", "[1", "((16, 16),)", "(1, 'a')", "(1e9,)", "1", "{}"]
SIZES = {"default": (10, 30), "large": (150, 1000)}  # configs, commands of each program
LARGE = pytest.param("large", marks=pytest.mark.slow)


def random_value(rng, spec=None):
    """A value that often fits a field, and often does not."""
    anything = [*NUMBERS, *WORDS, *NAMES, *TUPLES, *ODD_TUPLES, "True", "False"]
    if spec is None or rng.random() < 0.15:
        return rng.choice(anything)
    if isinstance(spec.allowed, tuple) and rng.random() < 0.7:
        return rng.choice(spec.allowed)
    if spec.kind.startswith("tuple"):
        return rng.choice([*TUPLES, *ODD_TUPLES])
    kinds = {"bool": ["True", "False", "1", "maybe"], "str": [*WORDS, *NAMES]}
    return rng.choice(kinds.get(spec.kind, NUMBERS))


def random_overrides(rng, config, count):
    here = [path for path in FIELDS if counts_in(path, config)]
    paths = [rng.choice(here if rng.random() < 0.8 else list(FIELDS)) for _ in range(count)]
    return [f"{path}={random_value(rng, FIELDS[path])}" for path in paths]


@pytest.mark.parametrize("size", ["default", LARGE])
def test_random_configs_are_taken_or_refused_in_words(size, tmp_path):
    rng, mesh = random.Random(0), make_mesh({"data": -1})
    for _ in range(SIZES[size][0]):
        name = rng.choice(config_names())
        base = load_config(f"{name}:mini")
        known = [*SMALL[base.model.name], *paths_for(base.data.name, tmp_path)]
        overrides = random_overrides(rng, base, rng.choice([1, 1, 2, 3]))
        try:
            config = load_config(f"{name}:mini", [*known, *overrides])
            checks.check(config)
            if size == "large":
                checks.check_training(config, mesh)
        except (ValueError, OSError):
            continue
        except Exception as error:
            raise AssertionError(f"{name} with {overrides}: {error!r}") from error
        if size == "large":  # what is taken can be traced: nothing is left to a late stage
            try:
                for section in planning.trained_sections(config):
                    plan = planning.plan_section(config, section, mesh)
                    step = plan.training.plan.step
                    jax.eval_shape(step, plan.training.plan.state, plan.frozen, plan.batch)
            except Exception as error:
                raise AssertionError(f"late: {name} with {overrides}: {error!r}") from error


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("size", ["default", LARGE])
def test_random_flags_are_taken_or_refused_in_words(size, program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"\xff\x00")
    launch = Launcher(monkeypatch, capsys)
    launch(program, "stray")
    known, rng = dict(launch.flags), random.Random(1)
    values = [*NUMBERS, *WORDS, *NAMES, "folder", "file", "nowhere/x", "folder/", "dpo_aif:mini"]
    for _ in range(SIZES[size][1]):
        argv = []
        for flag in rng.sample(sorted(known), rng.randint(0, min(5, len(known)))):
            plain = isinstance(known[flag], flags._flag.BooleanFlag) and rng.random() < 0.8
            argv.append(f"--{flag}" if plain else f"--{flag}={rng.choice(values)}")
        if rng.random() < 0.3:
            argv.append(f"--config.{rng.choice(list(FIELDS))}={rng.choice(values)}")
        if rng.random() < 0.1:
            argv.append(rng.choice(values))
        try:
            ended = launch(program, *argv)
        except Exception as error:
            raise AssertionError(f"{program} {argv}: {error!r}") from error
        assert ended.status in (None, 0, 1), (program, argv)
        assert ended.status != 1 or ended.text.strip(), (program, argv)


def test_values_of_every_kind_are_drawn():
    kinds = {spec.kind for spec in FIELDS.values()}
    rng = random.Random(0)
    assert all(random_value(rng, spec) is not None for spec in FIELDS.values())
    assert len(kinds) >= 8
    assert any(spec.allowed == PATTERN for spec in FIELDS.values())
