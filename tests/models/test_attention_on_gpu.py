"""Attention for cards that are only described, through XLA's GPU compiler, without a GPU."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.tpu_compiler import ROOT
from vidpref.planning.topologies import parse_topology

COMPILE = """
import dataclasses
import jax
from vidpref.models.attention import dot_product_attention
from vidpref.planning.chips import CARDS
from vidpref.planning.topologies import Topology
from vidpref.training.sharding import batch_sharding, in_scope, make_mesh

old = dataclasses.replace(CARDS["gpu16"], description="Tesla T4", capability=(7, 5))

def loss(q, k, v, mask):
    attend = lambda *x, **how: dot_product_attention(*x, implementation="auto", **how)
    out = attend(q, k, v), attend(q, k, v, mask), attend(q, q, q, causal=True)
    out += (attend(q[:, :77], k, v, mask, causal=True),)
    return sum(x.astype("float32").sum() for x in out)

for card, count in ((CARDS["gpu80"], 1), (CARDS["gpu24"], 2), (old, 1)):
    mesh = make_mesh({"data": -1}, Topology("", card, count).describe())
    struct = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))
    q, k = struct("float16", 2, 600, 2, 64), struct("float16", 2, 77, 2, 64)
    with in_scope(mesh):
        step = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        lowered = step.lower(q, k, k, struct(bool, 2, 77))
    kernels = lowered.compile().as_text().count('custom_call_target="__cudnn$fmha')
    print(card.description, kernels)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason='needs the GPU compiler: pip install "jax[cuda13]"',
)
def test_auto_is_cudnn_where_the_described_card_has_it():
    environment = {**os.environ, **parse_topology("gpu80").environment}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0"  # what is compiled is looked at
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    # forward and backward of each; of odd lengths too, which jax itself refuses
    assert done.stdout.splitlines() == [
        "NVIDIA H100 80GB HBM3 8",
        "NVIDIA GeForce RTX 4090 8",
        "Tesla T4 0",
    ]
    assert "attention on NVIDIA H100 80GB HBM3 (compute capability 9.0): cudnn" in done.stderr
    assert "attention on Tesla T4 (compute capability 7.5): chunked" in done.stderr
