"""A generator of this project as a folder that needs torch alone: weights and one PyTorch file.

The file is put together from the modules in `exported`, as far as the generator needs them.
"""

import ast
import collections
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.process import Process
from vidpref.interop.export import DTYPES, new_folder, on_host
from vidpref.interop.own_networks import NETWORKS, network_table
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import to_tensors
from vidpref.typing import PyTree

PROGRAM = "vidpref_generator.py"
SAMPLERS = ("ddim", "ddpm", "euler", "unipc")  # those that the file has
_PARTS = Path(__file__).parent / "exported"
_PROCESS_FIELDS = {
    "ddpm": ("prediction", "schedule", "steps", "spacing", "snr_shift", "zero_terminal_snr"),
    "flow": ("prediction", "shift", "min_time", "spacing"),
}
# Fields of a network that say how JAX computes it, and not what.
_OF_JAX = ("attention", "remat", "unroll", "dtype", "conv", "parent", "name")

_HEADER = '''"""A video generator that vidpref exported: networks, samplers and a small program.

    {command}

It needs the files beside it (config.json and safetensors) and torch. Pictures and GIFs are read and
written where Pillow is installed; .npy files always are. From Python:

    from vidpref_generator import VideoGenerator
    generator = VideoGenerator.load("THIS_FOLDER").to("cuda")
    clips = generator.draw(["a prompt"])  # uint8 [b, t, h, w, 3]; with first_frame=[h, w, 3]

The networks take and return clips [b, c, t, h, w] in [-1, 1]. tau [b] is the time of the noise, 0
for a clean clip and 1 for pure noise, whatever the chain. text [b, l, d] has a mask [b, l] of its
real tokens; a row without any has no text.
"""
'''


@dataclasses.dataclass(frozen=True)
class ExportedNetwork:
    """A network of a cascade.

    Attributes:
        module: one of `own_networks.NETWORKS`.
        params: its parameters, boxed or not.
        clip_shape: (t, h, w, c) of its clips.
        steps: calls of it for a clip.
    """

    module: nn.Module
    params: PyTree
    clip_shape: tuple[int, int, int, int]
    steps: int


def export_torch(
    out: Path,
    networks: Mapping[str, ExportedNetwork],
    process: Process,
    settings: Mapping[str, Any],
    *,
    command: str,
    dtype: str = "float32",
) -> None:
    """Writes a generator to a folder: config.json, safetensors, and `PROGRAM`, which needs torch.

    Every process must call this, and the first one writes; it holds one network at a time.

    Args:
        out: the new folder; an empty one is replaced.
        networks: by name, in the order in which clips go through them; the names are of files.
        process: the noise process of all of them.
        settings: what else config.json holds: "sampler" (name, eta, guidance_scale), "text" (name,
            length, dim, truncate), "fps", and more to read.
        command: how the program is called, for its first lines.
        dtype: type of the weights, one of `export.DTYPES`; the program computes in float32.

    Raises:
        ValueError: `out` holds something, another type, a network or a sampler that the program
            lacks, or parameters that are not those of a module.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: weights are exported as {' or '.join(DTYPES)}")
    sampler = settings["sampler"]["name"]
    if sampler not in SAMPLERS:
        raise ValueError(
            f"config.sampler.name={sampler!r}: the PyTorch file draws by {', '.join(SAMPLERS)}"
        )
    kinds = {name: _kind(network.module) for name, network in networks.items()}
    described = {
        "process": _process(process),
        "networks": {
            name: _description(kinds[name], network) for name, network in networks.items()
        },
    }
    with new_folder(out) as folder:
        for name, network in networks.items():
            params = jax.tree.map(on_host, nn.unbox(network.params))
            tensors = to_tensors(params, network_table(network.module))
            if folder is not None:
                typed = {n: tensor.astype(jnp.dtype(dtype)) for n, tensor in tensors.items()}
                write_tensors(folder, typed, stem=name, max_shard_bytes=sys.maxsize)
        if folder is not None:
            text = json.dumps({**settings, **described}, indent=2)
            (folder / "config.json").write_text(text + "\n", encoding="utf-8")
            program = torch_program([*kinds.values()], command)
            (folder / PROGRAM).write_text(program, encoding="utf-8")


def torch_program(kinds: Sequence[str], command: str) -> str:
    """Returns the source of a PyTorch file that holds networks, samplers and a program.

    Args:
        kinds: names in `own_networks.NETWORKS`.
        command: how the program is called, for its first lines.
    """
    networks = ["unet3d" if kind == "unet3d" else "transformer" for kind in kinds]
    names = ("layers", *dict.fromkeys(networks), "sampling", "text", "files", "program")
    imports, sections = [], []
    for name in names:
        source = (_PARTS / f"{name}.py").read_text(encoding="utf-8")
        title, *statements = ast.parse(source).body
        outer = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
        imports += (s for s in outer if getattr(s, "level", 0) == 0)  # others are of the parts
        body = "\n".join(source.splitlines()[outer[-1].end_lineno :]).strip()
        blank = "\n\n\n" if body.startswith(("class ", "def ")) else "\n\n"
        sections.append(f"# {title.value.value}{blank}{body}\n")
    # in a string of Python, whatever a prompt is made of
    head = _HEADER.format(command=command.replace("\\", "\\\\").replace('"', '\\"'))
    return "\n".join([head, *_import_lines(imports), "", "\n\n".join(sections)])


def _import_lines(imports: Sequence[ast.Import | ast.ImportFrom]) -> list[str]:
    """One line a module; those of torch after a blank line."""
    plain = {ast.unparse(s) for s in imports if isinstance(s, ast.Import)}
    names = collections.defaultdict(set)
    for statement in imports:
        if isinstance(statement, ast.ImportFrom):
            names[statement.module].update(alias.name for alias in statement.names)
    froms = [f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)]
    lines = [*sorted(plain), *froms]
    of_torch = [line for line in lines if line.split()[1].partition(".")[0] == "torch"]
    return [*(line for line in lines if line not in of_torch), "", *of_torch]


def _kind(module: nn.Module) -> str:
    for name, known in NETWORKS.items():
        if type(module) is known:
            return name
    raise ValueError(
        f"a {type(module).__name__} has no form in PyTorch; these have: {', '.join(NETWORKS)}"
    )


def _process(process: Process) -> dict[str, Any]:
    name = "ddpm" if isinstance(process, DDPM) else "flow"
    fields = {field: getattr(process, field) for field in _PROCESS_FIELDS[name]}
    return {"name": name, "fields": fields}


def _description(kind: str, network: ExportedNetwork) -> dict[str, Any]:
    module = network.module
    names = [name for name in module.__dataclass_fields__ if name not in _OF_JAX]
    frames, height, width, _ = network.clip_shape
    return {
        "network": kind,
        "steps": network.steps,
        "frames": frames,
        "height": height,
        "width": width,
        "fields": {name: getattr(module, name) for name in names},
    }
