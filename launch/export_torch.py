"""Writes the policy of a finished run as weights that diffusers loads; torch is not needed.

    python launch/export_torch.py --workdir=runs/wan --format=diffusers --out=aligned
    python launch/export_torch.py --workdir=runs/wan --format=peft --out=aligned-lora

"diffusers" writes a whole pipeline for `from_pretrained`; "peft" writes the LoRA of a run for
`load_lora_weights`. A model card with the config and the numbers goes along.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.")
_FORMAT = flags.DEFINE_string(
    "format", "diffusers", "What is written: diffusers (a whole pipeline) or peft (the LoRA)."
)
_OUT = flags.DEFINE_string("out", None, "New folder for the weights.")
_POLICY = flags.DEFINE_string("policy", "", "Policy of the run; the last one if not given.")
_DTYPE = flags.DEFINE_string(
    "dtype", "float32", "Type of a pipeline's weights: float32 or bfloat16."
)


def main(overrides: Sequence[str]) -> None:
    for name, flag in (("workdir", _WORKDIR), ("out", _OUT)):
        if not flag.value:
            raise app.UsageError(f"--{name}=FOLDER is missing.")
    if overrides:
        raise app.UsageError(f"--config.{overrides[0]}: a finished run has its config already.")
    workdir = Path(_WORKDIR.value)
    command_line.start_devices(workdir)
    from vidpref.runs import export, prompted, rounds

    recipe, policies = rounds.open_finished(workdir, prompted.MESH)
    export.export_policy(
        recipe,
        policies,
        _POLICY.value or list(policies)[-1],
        out=Path(_OUT.value),
        form=_FORMAT.value,
        dtype=_DTYPE.value,
    )
    print(f"exported: {_OUT.value}")


if __name__ == "__main__":
    command_line.launch(main)
