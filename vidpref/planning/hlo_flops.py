"""Operations of a compiled program: what the compiler made of the products of the traced one."""

import math
import re

from vidpref.planning.hlo import Instruction, Program

_DIMS = re.compile(r"(\w+)=\{([\d,]*)\}")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_COUNT = re.compile(r"(batch)_group_count=(\d+)")


def hlo_flops(program: Program) -> float:
    """Returns products and additions of a call on one device, of matrix products and convolutions.

    Positions of a window that lie in padding, or between the numbers of a stretched input, are not
    counted, as by XLA's own analysis, which counts the body of a loop once. What custom calls
    compute (attention kernels, cuDNN and cuBLAS) is not seen.
    """
    total = 0.0
    for instruction, computation, times in program.executed(fused=True):
        known = program.computations[computation]
        if instruction.opcode == "dot":
            total += times * _dot(instruction, known)
        elif instruction.opcode == "convolution":
            total += times * _convolution(instruction, known)
    return total


def _dot(instruction: Instruction, known: dict[str, Instruction]) -> float:
    left = known[instruction.operands[0]].arrays[0].shape
    dims = dict(_DIMS.findall(instruction.rest)).get("lhs_contracting_dims", "")
    contracted = [left[int(i)] for i in dims.split(",") if i]
    return 2.0 * math.prod(instruction.arrays[0].shape) * math.prod(contracted)


def _convolution(instruction: Instruction, known: dict[str, Instruction]) -> float:
    left, right = (known[name].arrays[0].shape for name in instruction.operands[:2])
    out = instruction.arrays[0].shape
    inputs, kernel, outputs = _LABELS.search(instruction.rest).groups()
    window = _WINDOW.search(instruction.rest)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    axes = [axis for axis in outputs if axis.isdigit()]
    positions = 1
    for i, axis in enumerate(sorted(axes)):
        positions *= _valid(
            int(fields["size"].split("x")[i]) if "size" in fields else 1,
            left[inputs.index(axis)],
            out[outputs.index(axis)],
            [_at(fields, name, i) for name in ("stride", "lhs_dilate", "rhs_dilate")],
            int(_at(fields, "pad", i, "0_0").split("_")[0]),
        )
    count = _COUNT.search(instruction.rest)
    batch = out[outputs.index("b")] if count is None else left[inputs.index("b")] / int(count[2])
    return 2.0 * batch * out[outputs.index("f")] * right[kernel.index("i")] * positions


def _at(fields: dict[str, str], name: str, i: int, default: str = "1") -> str:
    return fields[name].split("x")[i] if name in fields else default


def _valid(size: int, length: int, out: int, steps: list[str], pad: int) -> int:
    """Pairs of (output, place in the window) that meet a number of the input."""
    stride, stretched, spread = map(int, steps)
    if size == 1 and stretched == 1 and pad == 0:
        return out
    found = 0
    for place in range(size):
        at = [o * stride + place * spread - pad for o in range(out)]
        found += sum(a >= 0 and a % stretched == 0 and a // stretched < length for a in at)
    return found
