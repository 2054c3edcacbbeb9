"""Wan2.1-1.3B on one GPU, DPO steps and sampling: vidpref against diffusers; and the paper's UNet.

    pip install -e ".[cuda,test]"; pip install torch    # one that computes on the GPU
    python benchmarks/gpu.py --json=gpu.json            # on a card of 80 GB, case after case
    python benchmarks/gpu.py --cases=lora --frames=17   # on smaller ones
    JAX_PLATFORMS=cpu python benchmarks/gpu.py --tiny   # all of it, small, on a CPU

Cases: `lora` and `full` are the DPO step of flow_dpo:wan2_1_1_3b on one pair, as the recipe's plan
has it; `sample` draws one clip with guidance; `unet` is the step of dpo_aif:paper on eight pairs,
which has no peer. Clips are latents of noise, of so many frames of 480x832.

The peer has the same weights and noise and recomputes its blocks in the backward pass as we do. It
steps with four forward passes, as public training code does, and with winner and loser in one
batch, compiled; its attention is PyTorch's own. Where losses and gradient norms (or clips) differ
by more than the precision explains, nothing is timed. Every round times each contender once.

TFLOP/s count what the method needs, in matrix products and convolutions, not what is computed again
to save memory. MFU is their share of what one large matrix product of jax's reaches on this device,
measured first. No GPU was at hand where this was written: there are no numbers of it yet.
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is PyTorch's too

import datetime
import gc
import json
from collections.abc import Sequence
from pathlib import Path

import diffusers
import interleaved
import jax
import torch
from absl import flags
from gpu_cases import CASES, Options, check_agreement, make_case
from utilisation import matmul_ceiling, rows_of, table

from vidpref.files import write_text
from vidpref.runs import command_line as program

_CASES = flags.DEFINE_list("cases", list(CASES), "What is timed.")
_FRAMES = flags.DEFINE_list("frames", ["17", "33", "81"], "Frames of the clips, 4n + 1.")
_STEPS = flags.DEFINE_integer("sampler_steps", 4, "Of a clip; 50 in the recipe.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved rounds.", lower_bound=1)
_COMPILE = flags.DEFINE_bool("compile", True, "Whether the packed peer is compiled; not on a CPU.")
_TINY = flags.DEFINE_bool("tiny", False, "Small networks and clips of 9 frames, in float32.")
_JSON = flags.DEFINE_string("json", None, "File for the rows, the device and the versions.")


def main(overrides: Sequence[str]) -> None:
    if strange := [name for name in _CASES.value if name not in CASES]:
        raise ValueError(f"--cases={strange[0]}: there are {', '.join(CASES)}")
    gpu = jax.default_backend() == "gpu"
    if gpu and not torch.cuda.is_available():
        raise ValueError("this PyTorch computes on no GPU: pip install torch, with CUDA")
    if not (gpu or _TINY.value):
        raise ValueError("there is no GPU for JAX: on a CPU give --tiny")
    if not gpu:
        torch.set_num_threads(1)  # with more it waits for itself where others use the cores
    device = jax.devices()[0].device_kind
    versions = {"jax": jax.__version__, "torch": torch.__version__}
    versions["diffusers"] = diffusers.__version__
    ceiling = matmul_ceiling(256 if _TINY.value else 8192, "float32" if _TINY.value else "bfloat16")
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{device}; {said}; a matrix product reaches {ceiling / 1e12:.3g} TFLOP/s")
    options = Options(_TINY.value, _STEPS.value, _COMPILE.value and gpu, tuple(overrides))
    rows = []
    for name in _CASES.value:
        for frames in _frames(name):
            case = make_case(name, frames, options)
            check_agreement(case)
            works = {one.name: [one.work] for one in case.contenders}
            found = interleaved.times(works, _ROUNDS.value)
            rows += rows_of(name, frames, found, case.flops, ceiling)
            print(table(rows[-len(works) :]), flush=True)
            del case, works  # the memory of the device is for the next one
            gc.collect()
            if gpu:
                torch.cuda.empty_cache()
    print(f"\n{table(rows)}")
    if _JSON.value:
        date = datetime.date.today().isoformat()
        kept = {"device": device, "date": date, **versions, "ceiling": ceiling, "rows": rows}
        write_text(Path(_JSON.value), json.dumps(kept, indent=1) + "\n")


def _frames(name: str) -> list[int]:
    """The numbers of frames that a case is timed with; the UNet has its own."""
    if name == "unet":
        return [8 if _TINY.value else 16]
    return [9] if _TINY.value else [int(frames) for frames in _FRAMES.value]


if __name__ == "__main__":
    program.launch(main)
