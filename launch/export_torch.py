"""Writes the policy of a finished run for diffusers or PyTorch; torch is not needed here.

    python launch/export_torch.py --workdir=runs/wan --format=diffusers --out=aligned
    python launch/export_torch.py --workdir=runs/wan --format=peft --out=aligned-lora
    python launch/export_torch.py --workdir=runs/quickstart --format=torch --out=generator

For Wan and CogVideoX "diffusers" writes a whole pipeline for `from_pretrained`, and "peft" the LoRA
of a run for `load_lora_weights`. For the networks of this project (3D-UNet, with its
super-resolution, and the diffusion transformers) "torch" writes safetensors and one PyTorch file,
which draws clips with torch alone. A model card with the config and the numbers goes along.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.config.overrides import DTYPE_SPELLINGS
from vidpref.config.schema import DTYPES
from vidpref.runs import command_line
from vidpref.storage.mirror import open_folder

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run, or gs://BUCKET/FOLDER.")
_FORMAT = flags.DEFINE_string(
    "format",
    "",
    "What is written: diffusers (a whole pipeline), peft (the LoRA) or torch (one PyTorch file and "
    "weights, of this project's networks); the first that the generator has if not given.",
)
_OUT = flags.DEFINE_string("out", None, "New folder for the weights.")
_POLICY = flags.DEFINE_string("policy", "", "Policy of the run; the last one if not given.")
_DTYPE = flags.DEFINE_string(
    "dtype", "float32", "Type of the weights that are written: float32 or bfloat16."
)


def main(overrides: Sequence[str]) -> None:
    wrong = [f"--{f.name}=FOLDER is missing." for f in (_WORKDIR, _OUT) if not f.value]
    wrong += [f"--config.{o}: a finished run has its config already." for o in overrides]
    dtype = DTYPE_SPELLINGS.get(_DTYPE.value, _DTYPE.value)
    if dtype not in DTYPES:
        wrong.append(f"--dtype={_DTYPE.value}: known are {', '.join(DTYPES)}.")
    if wrong:
        raise app.UsageError("\n".join(wrong))
    workdir = open_folder(_WORKDIR.value)
    command_line.start_devices(workdir)
    from vidpref.runs import export, prompted, rounds

    recipe, policies = rounds.open_finished(workdir, prompted.MESH)
    exported = export.export_policy(
        recipe,
        policies,
        _POLICY.value or list(policies)[-1],
        out=Path(_OUT.value),
        form=_FORMAT.value,
        dtype=dtype,
    )
    print(f"policy: {exported}")
    print(f"exported: {_OUT.value}")


if __name__ == "__main__":
    command_line.launch(main)
