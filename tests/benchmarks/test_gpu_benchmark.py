"""The benchmark of one GPU, small and on the CPU: both sides compute the same, and are counted."""

import dataclasses
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("peft")

import gpu_cases
import utilisation

from vidpref.config.by_name import PROJECT_ROOT
from vidpref.planning.flops import count_flops
from vidpref.stages.planning import plan_section
from vidpref.training.sharding import make_mesh

TINY = gpu_cases.Options(tiny=True, sampler_steps=2)


@pytest.fixture(scope="module")
def lora():
    return gpu_cases.make_case("lora", 9, TINY)


def test_the_step_of_the_plan_has_the_loss_and_the_gradient_of_the_peers(lora):
    ours, *others = lora.contenders
    assert [one.name for one in others] == ["diffusers, four forwards", "diffusers, packed"]
    gpu_cases.check_agreement(lora)
    first, then = (one.work() for one in (ours, ours))
    assert first != then  # other noise, other weights
    for other in others:  # their noise stays: the loss falls
        before, _, after = other.check(), other.work(), other.check()
        assert after["loss"] < before["loss"]


def test_what_differs_is_refused(lora):
    def contender(name, **change):
        values = {"loss": 1.0, "grad_norm": 2.0, "clips": np.ones(3)} | change
        return gpu_cases.Contender(name, lambda: values, lambda: None)

    for what, value, error in (("loss", 1.001, "1.0e-03"), ("clips", np.array([1, 1, 2]), "1.0e")):
        contenders = [contender("vidpref"), contender("same"), contender("other", **{what: value})]
        case = dataclasses.replace(lora, tolerance=1e-4, contenders=contenders)
        with pytest.raises(
            ValueError, match=f"nothing is timed, as other differs: {what} by {error}"
        ):
            gpu_cases.check_agreement(case)


@pytest.mark.parametrize(
    ("case", "frames", "expected"),
    [
        # tokens [t, 30, 52] of latents [t, 60, 104]; FLOP of a block that LoRA trains, by hand
        ("lora", 17, 5 * 30 * 52),
        ("lora", 81, 21 * 30 * 52),
    ],
)
def test_flops_are_those_that_the_method_needs(case, frames, expected):
    config = gpu_cases.config_of(case, frames, gpu_cases.Options())
    planned = plan_section(config, "align", make_mesh({}, jax.devices()[:1]))
    plan = planned.training.plan
    flops = count_flops(plan.step.trace(plan.state, planned.frozen, planned.batch))
    n, width, ffn, text, layers = expected, 1536, 8960, 512, 30
    forward = 2 * n * (6 * width * width + 2 * width * ffn) + 4 * text * width * width
    attention = 4 * n * (n + text) * width
    adapters = 2 * config.align.lora.rank * width * (12 * n + 4 * text)  # of eight layers
    # two clips; the reference is one forward pass, gradients of the activations are another, of the
    # adapters there are those of both factors too, and those of attention have 2.5 times its
    # products, as the scores are computed anew (FlashAttention-2, section 4.1)
    passes = 3 * forward + 3 * adapters + (1 + 1 + 2.5) * attention
    needed = 2 * layers * passes
    assert flops.total - flops.rematerialized == pytest.approx(needed, rel=0.02)


def test_shares_are_of_what_a_matrix_product_reaches():
    found = {"ours": [[1.0], [2.0], [4.0]], "theirs": [[2.0], [6.0], [8.0]]}
    ours, theirs = utilisation.rows_of("lora", 17, found, flops=4e12, ceiling=8e12)
    assert (ours["seconds"], ours["tflops"], ours["mfu"], ours["against_ours"]) == (2, 2, 0.25, 1)
    assert theirs["against_ours"] == 2  # the median of each round's
    lines = utilisation.table([ours, theirs]).splitlines()
    assert lines[2] == "| lora | 17 | ours | 2 (1-4) | 2 | 25% | 1.00 |"
    assert len({line.count("|") for line in lines}) == 1
    assert 0 < utilisation.matmul_ceiling(64, "float32") < 1e15


@pytest.mark.slow
def test_all_cases_run_on_a_cpu():
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--rounds=2", "--sampler_steps=2"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    last = done.stdout.rsplit("\n\n", 1)[1]
    rows = re.findall(r"^\| (\w+) \| \d+ \| ([\w, ]+) \|", last, re.MULTILINE)
    step = ["vidpref", "diffusers, four forwards", "diffusers, packed"]
    expected = [(case, one) for case in ("lora", "full") for one in step]
    expected += [("sample", "vidpref"), ("sample", "diffusers"), ("unet", "vidpref")]
    assert [row for row in rows if row[0] != "case"] == expected
