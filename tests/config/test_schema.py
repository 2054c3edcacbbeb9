"""The schema: every option once, read by the code, reachable in every config where it counts."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from vidpref.config import align, networks, schema
from vidpref.config.by_name import config_module, config_names, named_config
from vidpref.config.fields import Field, build, lookup, plain
from vidpref.config.schema import FIELDS, OPEN, counts_in, new_config
from vidpref.diffusion.conversions import KINDS
from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.denoising import REDUCTIONS
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers import SAMPLERS
from vidpref.language.video_reward import POSITIONS
from vidpref.losses.video_reward import LOSSES
from vidpref.models.registry import BACKBONES
from vidpref.objectives.alignment import OBJECTIVES, hyper_field
from vidpref.objectives.preference import MASKS
from vidpref.rewards.registry import REWARDS
from vidpref.rewards.remote_judge import RemoteJudge
from vidpref.rewards.video_reward import VideoReward
from vidpref.rewards.vlm_judge import VlmJudge
from vidpref.stages.rows.sampled import ROW_BUILDERS

ROOT = Path(__file__).parents[2]
SPECS = [f"{name}:{scale}" for name in config_names() for scale in config_module(name).SCALES]
# Where fields are read; the schema itself and the configs write them.
READERS = [
    path
    for folder in ("vidpref", "data", "launch", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if (ROOT / "vidpref" / "config") not in path.parents
]
# Handed on as keyword arguments, so that no code names them.
NO_FIELDS = {"x", "json", "yaml", "by_name", "schema", "align", "update"}
PASSED_ON = (
    *("model.", "superres.model.", "diffusion."),
    *("reward.remote_judge.", "reward.video_reward.", "reward.vlm_judge."),
)


def fields_of(section):
    return {part.name for part in dataclasses.fields(section)}


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_network_has_the_fields_of_its_module(name):
    given = set() if BACKBONES[name].latents else {"channels", "text_dim"}
    module = fields_of(BACKBONES[name].module) - given - {"parent", "name", "dtype"}
    section = getattr(networks.Model(), name)
    assert fields_of(section) == module


@pytest.mark.parametrize(
    ("section", "process"), [(schema.DDPM, DDPM), (schema.Flow, RectifiedFlow)]
)
def test_a_process_has_the_fields_of_its_class(section, process):
    # the prediction is that of both, and an alignment may narrow the times
    assert fields_of(section) == fields_of(process) - {"prediction", "time_range"}
    assert {p.name: p.default for p in dataclasses.fields(section)} == {
        p.name: p.default
        for p in dataclasses.fields(process)
        if p.name not in ("prediction", "time_range")
    }


def test_the_remote_judge_has_the_arguments_of_its_class():
    arguments = set(inspect.signature(RemoteJudge).parameters)
    asked = {"templates", "graded"}  # what its questions are made of
    assert fields_of(schema.RemoteJudge) - asked == arguments - {"questions"}


def test_the_reward_model_has_the_arguments_of_its_class():
    arguments = set(inspect.signature(VideoReward).parameters)
    assert fields_of(schema.VideoReward) == arguments - {"dimensions"}


def test_the_local_judge_has_the_arguments_of_its_class():
    arguments = set(inspect.signature(VlmJudge).parameters)
    assert fields_of(schema.VlmJudge) == arguments - {"questions"} | {"graded", "templates"}


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("align.method", {*OBJECTIVES, align.TRAJECTORIES, *align.BACKPROPAGATED, align.GUIDANCE}),
        ("align.rows", set(ROW_BUILDERS)),
        ("align.reduction", set(REDUCTIONS)),
        ("align.error_in", {"", *KINDS}),
        ("diffusion.prediction", set(KINDS)),
        ("sampler.name", set(SAMPLERS)),
        ("model.name", set(BACKBONES)),
        ("reward.name", {*REWARDS, schema.NO_JUDGE}),
        ("judge.loss", set(LOSSES)),
        ("judge.masks", set(MASKS)),
        ("judge.positions", set(POSITIONS)),
    ],
)
def test_choices_are_those_of_the_registries(path, known):
    assert set(FIELDS[path].allowed) == known


@pytest.mark.parametrize("method", OBJECTIVES)
def test_hyper_parameters_are_those_of_the_objective(method):
    parameters = inspect.signature(OBJECTIVES[method].fn).parameters.values()
    names = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    wanted = {hyper_field(name) for name in names}
    assert {f"align.{name}" for name in wanted} <= set(FIELDS)
    config = new_config()
    config.align.method = method
    config.align.pair_weight = "gap"  # with which its power and reference count
    config.align.real_weight = 0.1  # which counts where it is some
    if OBJECTIVES[method].learns_from_advantages:
        config.align.rows, config.align.online.updates = "fresh", 2
    for name in wanted:
        assert counts_in(f"align.{name}", config)


def test_every_field_is_read_somewhere():
    attributes, words = set(), set()
    for path in READERS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                attributes.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    lost = [
        path
        for path in FIELDS
        if not path.startswith(PASSED_ON)
        and path.rpartition(".")[2] not in attributes | words
        # hyper-parameters and weights of dimensions are read by the objectives' own names
        and path not in {f"align.{name}" for spec in OBJECTIVES.values() for name in spec.hyper}
    ]
    assert not lost, f"no code reads {lost}"


def chains(source):
    """Yields every chain of names after `config.` in a source, e.g. ("align", "train", "steps")."""
    for found in re.finditer(r"(?<!vidpref\.)(?<!jax\.)\bconfig((?:\.[a-z_0-9]+)+)(\()?", source):
        names = found[1].lstrip(".").split(".")
        names = tuple(names[:-1] if found[2] else names)
        if names:
            yield names


def test_every_field_that_code_reads_is_in_the_schema():
    known = {part for path in [*FIELDS, *OPEN] for part in subpaths(path)}
    # elsewhere `config` is that of a builder, of a pipeline's json, or of jax
    rooms = ("generation", "losses", "rewards", "stages", "runs", "training")
    strange = {
        f"{path.relative_to(ROOT)}: config.{'.'.join(names)}"
        for path in READERS
        if path.parts[len(ROOT.parts) + 1] in rooms
        for names in chains(path.read_text())
        if names not in known and names[0] not in NO_FIELDS
    }
    assert not strange


def subpaths(path):
    names = path.split(".")
    spans = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names) + 1)]
    return {tuple(names[i:j]) for i, j in spans}


def test_no_code_has_a_default_of_its_own():
    sections = "config|section|settings|data|reward|align|text|model|train|lora|sampler|label"
    pattern = re.compile(rf"\b(?:{sections})\.get\(")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in READERS
        if (ROOT / "vidpref") in path.parents and not {"interop", "models"} & {*path.parts}
        for line in path.read_text().splitlines()
        if pattern.search(line)
    ]
    assert not found


@pytest.mark.parametrize("spec", SPECS)
def test_every_config_accepts_every_field_that_counts(spec):
    config = named_config(spec)
    overrides = [
        f"{path}={_text(lookup(config, path))}"
        for path in FIELDS
        if counts_in(path, config) and lookup(config, path) is not None
    ]
    assert plain(named_config(spec, overrides)) == plain(config)


@pytest.mark.parametrize("spec", SPECS)
def test_every_config_has_the_same_fields(spec):
    assert set(_leaves(named_config(spec))) == set(_leaves(new_config()))


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_says_what_it_is(path):
    spec = FIELDS[path]
    assert spec.meaning.endswith(".")
    assert spec.meaning[0].isupper() or spec.meaning[0] == "("
    assert not spec.problem(spec.default), "the default is out of its own range"
    for every in spec.when:
        for name in every:
            assert name in FIELDS


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [
        ("> 0", (1e-9, 3, (1, 2)), (0, -1, float("nan"), (1, 0))),
        (">= 1", (1, 2.5), (0.99, float("inf"))),
        ("in [0, 1)", (0, 0.999), (1, -1e-9)),
        ("in (0, 1]", (1, 1e-9), (0,)),
        (("a", "b"), ("a",), ("c", "")),
        ("", ("anything", (), None, -3.0), (float("nan"),)),
    ],
)
def test_ranges(allowed, good, bad):
    spec = Field(0, allowed, "Meaning.", "result", ())
    assert not any(spec.problem(value) for value in good)
    assert all(spec.problem(value) for value in bad)


def test_a_range_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="is no range"):
        Field(0, "above 0", "Meaning.", "result", ()).problem(1)


def test_a_section_of_its_own():
    """Parts of the schema make sections for tests and for programs that train one thing."""
    from vidpref.config.training import Optimizer, Train

    train = build(Train(steps=3, optimizer=Optimizer(name="muon")))
    assert (train.steps, train.optimizer.name, train.batch_size) == (3, "muon", 64)


def _text(value):
    return value if isinstance(value, str) else repr(plain_tuple(value))


def plain_tuple(value):
    return tuple(map(plain_tuple, value)) if isinstance(value, tuple | list) else value


def _leaves(config, prefix=""):
    for name, value in config.items():
        if f"{prefix}{name}" in OPEN:
            continue
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
