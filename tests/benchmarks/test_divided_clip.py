"""Clips whose tokens are divided over chips, through the TPU compiler, on one slice and on two."""

import re

import pytest

from tests import tpu_compiler

SMALL = (
    "model.wan.num_layers=2",
    "model.wan.num_attention_heads=8",
    "model.wan.ffn_dim=2048",
    "data.frames=17",
    "data.height=128",
    "data.width=128",
)


def compiled(*arguments):
    """Returns peak memory a chip in GiB, and bytes by (kind, axes) in GiB."""
    fields = [f"--override={field}" for field in SMALL]
    text = tpu_compiler.run("benchmarks/divided_clip.py", *arguments, *fields)
    (peak,) = re.findall(r"peak memory: ([\d.]+) GiB", text)
    sent = re.findall(r"(\S+) over (\S+) \(\d+\): \d+ a step, ([\d.]+) GiB", text)
    return float(peak), {(kind, axes): float(size) for kind, axes, size in sent}


@pytest.mark.slow
@tpu_compiler.needs_libtpu
def test_memory_and_bytes_a_chip_stay_where_chips_and_clips_grow_together():
    few, sent = compiled("--topology=v6e:2x4")
    many, sent_by_many = compiled("--topology=v6e:16x16")
    assert abs(many / few - 1) < 0.1
    exchanged = "all-to-all", "context"
    assert sent[exchanged] > 0
    assert sent_by_many[exchanged] == pytest.approx(sent[exchanged], rel=0.02)


@pytest.mark.slow
@tpu_compiler.needs_libtpu
def test_between_two_slices_nothing_but_gradients_is_sent():
    _, sent = compiled("--topology=v6e:2x4:2")
    assert any("context" in axes for _, axes in sent)
    between = {kind for kind, axes in sent if axes == "slices"}
    assert between == {"all-reduce"}
    assert all("data" not in axes or kind == "all-reduce" for kind, axes in sent)
