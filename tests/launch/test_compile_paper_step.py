"""The paper's step goes through the TPU compiler: here a small network on a small slice."""

import re

from tests import tpu_compiler

SMALL = (
    "model.unet3d.features=(32,)",
    "model.unet3d.blocks=(2,)",
    "model.unet3d.spatial=(True,)",
    "model.unet3d.temporal=(True,)",
    "model.unet3d.cross=(True,)",
    "model.unet3d.head_dim=32",
    "model.unet3d.cond_dim=64",
    "data.frames=4",
    "data.height=8",
    "data.width=16",
    "align.train.batch_size=8",
    "mesh.fsdp=2",
)


@tpu_compiler.needs_libtpu
def test_the_dpo_step_compiles_for_a_tpu_slice():
    overrides = [f"--config.{override}" for override in SMALL]
    found = tpu_compiler.run("benchmarks/compile_paper_step.py", "--topology=v5e:2x4", *overrides)
    clips = "8 rows of 2 clips (4, 8, 16, 3), bfloat16, v5e:2x4 (data 2 x fsdp 2 x context 2)"
    assert clips in found
    peak = float(re.search(r"peak memory: ([\d.]+) GiB", found)[1])
    assert 0 < peak < 15.75
    assert re.search(r"collectives: .*all-", found)  # gradients and parameters do move
