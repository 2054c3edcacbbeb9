"""Layouts for one GPU: the frozen base in half of its bytes, and steps that fit their cards."""

import importlib.util
import re

import jax
import pytest

from configs.shared import one_gpu
from tests import tpu_compiler
from vidpref.generation.adopt import load_config
from vidpref.stages.planning import plan_section
from vidpref.training.sharding import make_mesh

METHODS = {"wan2_1": "flow_dpo", "cogvideox_5b_i2v": "realdpo", "cogvideox": "ipo_kto"}
SPECS = [
    f"{next(name for start, name in METHODS.items() if scale.startswith(start))}:{scale}@{card}"
    for scale, cards in one_gpu._LAYOUTS.items()
    for card in cards
]
# GiB that a training step may take, of the smallest layout of each generator.
AT_MOST = {"wan2_1_1_3b@16gb": 14.0, "cogvideox_5b@32gb": 24.0, "wan2_1_14b@80gb": 72.0}

needs_gpu_compiler = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason='needs the GPU compiler: pip install "jax[cuda13]"',
)


def size(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("kind", "share"), [("compute", 0.505), ("int8", 0.26)])
def test_the_frozen_base_is_planned_as_it_is_kept(kind, share):
    config = load_config("flow_dpo:wan2_1_14b@80gb", [f"align.lora.base={kind}"])
    planned = plan_section(config, "align", make_mesh({}, jax.devices()[:1]))
    assert set(planned.frozen) == {"base"}
    assert size(planned.frozen) < share * size(planned.params)


@pytest.mark.slow
@needs_gpu_compiler
@pytest.mark.parametrize("spec", SPECS)
def test_every_layout_fits_its_card(spec):
    printed = tpu_compiler.run(
        "benchmarks/compile_paper_step.py", f"--config={spec}", "--topology=cuda:1"
    )
    peak = float(re.search(r"peak memory: ([\d.]+) GiB", printed)[1])
    card = int(re.search(r"@(\d+)gb", spec)[1])
    assert peak < min(0.9 * card, AT_MOST.get(spec.partition(":")[2], card))
