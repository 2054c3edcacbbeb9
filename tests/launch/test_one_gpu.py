"""Layouts for one GPU: the frozen base in half of its bytes, and steps that fit their cards."""

import importlib.util

import jax
import pytest

from configs.shared import one_gpu
from vidpref.generation.adopt import load_config
from vidpref.planning.chips import GIB
from vidpref.planning.compiling import Request, compile_programs
from vidpref.stages.planning import plan_section
from vidpref.training.sharding import make_mesh

METHODS = {
    "wan2_1_1_3b": "flow_dpo",
    "wan2_1_14b": "flow_dpo",
    "cogvideox_2b": "ipo_kto",
    "cogvideox_5b": "ipo_kto",
    "cogvideox_5b_i2v": "realdpo",
}
SPECS = [
    f"{method}:{scale}@{card}"
    for scale, method in METHODS.items()
    for card in one_gpu.layouts(scale)
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
def test_every_layout_fits_its_card(spec, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")  # what is compiled is looked at
    scale, _, card = spec.partition(":")[2].partition("@")
    request = Request(spec, f"gpu{card.removesuffix('gb')}", programs=("align",))
    (step,) = compile_programs(request)
    assert step.fits, step
    assert step.memory.peak / GIB < AT_MOST.get(f"{scale}@{card}", 80.0)
