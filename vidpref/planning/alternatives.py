"""Settings with which a run fits where it did not, found by compiling with them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from vidpref.config.by_name import ConfigError
from vidpref.generation.adopt import load_config
from vidpref.planning.chips import GIB
from vidpref.planning.compiling import Request, compile_programs
from vidpref.planning.run_plan import RunPlan
from vidpref.stages.judge_programs import is_judge

_TRAINED = ("align", "pretrain", "superres", "judge")
Setting = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tried:
    """What was tried.

    Attributes:
        fitting: [(settings, bytes of the program that holds the most)].
        failed: settings that do not help enough.
        left: settings that nobody had the time for.
    """

    fitting: list[tuple[Setting, float]]
    failed: list[Setting]
    left: list[Setting]

    @property
    def text(self) -> str:
        """It in words."""
        lines = [f"fits with {_flags(one)}: {peak / GIB:.2f} GiB" for one, peak in self.fitting]
        lines += [f"does not fit with {_flags(one)}" for one in self.failed]
        lines += [f"not tried (--tries): {_flags(one)}" for one in self.left]
        if not self.fitting:
            lines.append("Nothing that was tried fits here: take more chips, or larger ones.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """It for JSON."""
        return dataclasses.asdict(self)


def alternatives(
    request: Request, plan: RunPlan, *, tries: int, say: Callable[[str], None]
) -> Tried:
    """Tries settings for the programs that do not fit: each alone, then all of them together.

    Of each (more fsdp, remat, more accumulation, more context, smaller batches, tiles, a base of
    adapters in int8), the values are tried from the smallest change on, until one fits.

    Args:
        request: what was planned.
        plan: the plan that does not fit.
        tries: settings tried, at most.
        say: is told what is compiled.
    """
    config = load_config(request.config, request.overrides)
    # what is refused for another reason would be refused again
    too_large = [program for program in plan.programs if program.memory and not program.fits]
    programs = tuple(program.name for program in too_large)
    found = Tried([], [], [])
    knobs = [list(knob) for knob in _knobs(config, programs, plan.topology.devices)]
    together = tuple(itertools.chain.from_iterable(knob[-1] for knob in knobs if knob))
    for knob in [*knobs, [together]]:
        if knob == [together] and (found.fitting or len(knobs) < 2):
            continue
        for setting in knob:
            if len(found.fitting) + len(found.failed) >= tries:
                found.left.append(setting)
                continue
            say(f"trying {_flags(setting)}")
            peak = _peak(request, programs, setting, say)
            if peak is None:
                found.failed.append(setting)
            else:
                found.fitting.append((setting, peak))
                break
    return found


def _peak(
    request: Request, programs: tuple[str, ...], setting: Setting, say: Callable[[str], None]
) -> float | None:
    """Bytes of the program that holds the most with a setting; None where one does not fit."""
    overrides = (*request.overrides, *setting)
    asked = dataclasses.replace(request, overrides=overrides, programs=programs)
    try:
        found = list(compile_programs(asked, say))
    except ConfigError:
        return None
    if not all(program.fits for program in found):
        return None
    return max(program.memory.peak for program in found if program.memory)


def _knobs(
    config: ConfigDict, programs: Sequence[str], devices: int
) -> Iterator[Iterator[Setting]]:
    sections = [name for name in programs if name in _TRAINED]
    yield _mesh(config, sections, devices, "fsdp")
    if sections:
        yield _remat(config, sections)
        yield _accumulation(config, sections, devices)
    yield _mesh(config, sections, devices, "context")
    if {"sample", "decode", "sample-superres"} & set(programs):
        yield _halved(config, "sampler.batch_size", devices)
    if "score" in programs:
        own = "judge.score_batch" if is_judge(config) else "reward.video_reward.batch_size"
        yield _halved(config, own, devices)
    if "encode" in programs:
        yield _halved(config, "data.encode_batch", devices)
    if {"encode", "decode"} & set(programs) and not config.model.tiled:
        yield iter([("model.tiled=True",)])
    if "align" in sections and config.align.lora.rank and config.align.lora.base != "int8":
        yield iter([("align.lora.base=int8",)])


def _mesh(
    config: ConfigDict, sections: Sequence[str], devices: int, axis: str
) -> Iterator[Setting]:
    size = config.mesh[axis]
    while 0 < (size := 2 * size) <= devices:
        mesh = {**config.mesh, axis: size}
        rows = _rows(mesh, devices)
        if rows and all(_divides(config, section, rows) for section in sections):
            yield (f"mesh.{axis}={size}",)


def _remat(config: ConfigDict, sections: Sequence[str]) -> Iterator[Setting]:
    """Blocks that keep less for gradients; the policies of jax lie between none and full."""
    paths = {"superres": "superres.model", "judge": "judge"}
    found = {}
    for path in sorted({paths.get(section, "model") for section in sections}):
        network = _at(config, path)
        if path != "judge":
            path, network = f"{path}.{network.name}", network[network.name]
        if "remat" in network:
            found[f"{path}.remat"] = network.remat
    order = {"none": 0, "full": 2, "offload": 3}
    for policy in ("full", "offload"):
        less = [field for field, now in found.items() if order.get(now, 1) < order[policy]]
        if less:
            yield tuple(f"{field}={policy}" for field in less)


def _accumulation(config: ConfigDict, sections: Sequence[str], devices: int) -> Iterator[Setting]:
    rows = _rows(config.mesh, devices)
    for times in (2, 4, 8, 16, 32, 64):
        if rows and all(_divides(config, section, rows * times) for section in sections):
            yield tuple(
                f"{section}.train.accumulate={config[section].train.accumulate * times}"
                for section in sections
            )


def _halved(config: ConfigDict, field: str, devices: int) -> Iterator[Setting]:
    rows, size = _rows(config.mesh, devices), _at(config, field)
    while rows and size % 2 == 0 and (size := size // 2) % rows == 0:
        yield (f"{field}={size}",)


def _rows(mesh: Any, devices: int) -> int:
    """Devices over which rows are divided; 0 where the mesh cannot be."""
    fixed = mesh["fsdp"] * mesh["context"] * mesh["tensor"]
    if fixed <= 0 or devices % fixed or mesh["data"] not in (-1, devices // fixed):
        return 0
    return devices // fixed * mesh["fsdp"]


def _divides(config: ConfigDict, section: str, rows: int) -> bool:
    train = config[section].train
    return train.batch_size % (rows * train.accumulate) == 0


def _at(config: ConfigDict, path: str) -> Any:
    for part in path.split("."):
        config = config[part]
    return config


def _flags(setting: Setting) -> str:
    return " ".join(f"--config.{one}" for one in setting)
