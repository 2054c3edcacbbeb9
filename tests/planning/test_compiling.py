"""The process that compiles, as the planner sees it: lines of text, and early ends."""

import json

import pytest

from vidpref.config.by_name import ConfigError
from vidpref.planning import compiling
from vidpref.planning.compiling import MARK, Request, compile_programs
from vidpref.planning.program_plan import ProgramPlan
from vidpref.planning.topologies import NoTopology

THERE = ("align", "sample", "text")


def message(**fields):
    return f"{MARK}{json.dumps(fields)}\n"


@pytest.fixture
def asked(monkeypatch):
    """The programs that processes were asked for; the compiler of `sample` ends its process."""
    found = []

    def lines(request):
        found.append(request.programs)
        yield "a compiler's own line\n"
        yield message(programs=THERE)
        for name in request.programs or THERE:
            yield message(started=name)
            if name == "sample":
                yield "F0000 a check failed\n"
                return
            yield message(program=ProgramPlan(name=name, parameters=3).to_dict())

    monkeypatch.setattr(compiling, "_lines", lines)
    return found


def test_what_ends_its_process_is_refused_and_the_rest_is_compiled_by_another(asked):
    said = []
    align, sample, text = compile_programs(Request("dpo_aif:mini", "v5e:2x2"), said.append)
    assert (align.name, align.refused, align.parameters) == ("align", "", 3)
    assert (sample.name, sample.fits) == ("sample", False)
    assert sample.refused == "the compiler's process ended: F0000 a check failed"
    assert text.name == "text"
    assert asked == [(), ("text",)]
    assert said == [f"v5e:2x2: compiling {name}" for name in THERE]


def test_programs_come_as_they_are_ready(asked):
    first = next(compile_programs(Request("dpo_aif:mini", "v5e:2x2", programs=("text", "align"))))
    assert first.name == "text"
    assert asked == [("text", "align")]


def test_a_program_that_the_run_has_not_is_refused(asked):
    request = Request("dpo_aif:mini", "v5e:2x2", programs=("decode",))
    with pytest.raises(ConfigError, match="--programs=decode: a run of dpo_aif:mini has align, s"):
        list(compile_programs(request))


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        (message(no_topology="no such slice"), NoTopology, "no such slice"),
        (message(refused="no such mesh"), ConfigError, "no such mesh"),
        (
            "ModuleNotFoundError: jax\n",
            ChildProcessError,
            "ended: ModuleNotFoundError: jax",
        ),
    ],
)
def test_a_process_that_cannot_begin_says_why(line, error, said, monkeypatch):
    monkeypatch.setattr(compiling, "_lines", lambda request: iter([line]))
    with pytest.raises(error) as raised:
        list(compile_programs(Request("dpo_aif:mini", "v5e:2x2")))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        (
            "gpu24:2",
            "--topology=gpu24:2: XLA's GPU compiler is not installed; get it with "
            'pip install -e ".[cuda]", no GPU is needed',
        ),
        (
            "v5e:2x2",
            "--topology=v5e:2x2: the TPU compiler is not installed; get it with "
            'pip install -e ".[plan]", no TPU is needed',
        ),
    ],
)
def test_a_compiler_that_is_not_installed_is_named_before_a_process_starts(
    topology, said, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(compiling.subprocess, "Popen", None)
    with pytest.raises(NoTopology) as raised:
        next(compile_programs(Request("dpo_aif:mini", topology)))
    assert str(raised.value) == said
