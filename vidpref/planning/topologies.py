"""Slices and cards by name, and their devices, which need not be there."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import re
from typing import Any

from vidpref.config.nearest import nearest
from vidpref.planning.chips import CARDS, CHIPS, Card, Chip

_MOST_CARDS = 8
_COUNT = re.compile(r"[1-9]\d*")
# Before jax is imported. libtpu must not look for the machine that it usually runs on.
_TPU_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v3-128",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Without autotuning, as there is no device to time kernels on; and without Triton's matrix
# products, which find no tile without it.
_GPU_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false",
}


class NoTopology(ValueError):
    """A name that is no slice and no set of cards, or whose compiler is not installed."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """Slices of TPU pods, or the cards of a machine.

    Attributes:
        name: such as v5e:4x8, v5e:16x16:2 or gpu24:2.
        chip: what it is made of.
        chips: number of chips, of all slices.
        slices: number of slices, between which lies the data-centre network.
    """

    name: str
    chip: Chip
    chips: int
    slices: int = 1

    @property
    def devices(self) -> int:
        """Number of jax devices."""
        return self.chips * self.chip.devices

    @property
    def host(self) -> "Topology":
        """What one host has of it: 2x2 chips, or all cards of a machine."""
        if isinstance(self.chip, Card) or self.chips <= 4:
            return self
        return parse_topology(f"{self.chip.name}:{'2x2' if self.chip.axes == 2 else '2x2x1'}")

    @property
    def environment(self) -> dict[str, str]:
        """What the environment of a process must have that compiles for it."""
        return _GPU_ENVIRONMENT if isinstance(self.chip, Card) else _TPU_ENVIRONMENT

    @property
    def compiler(self) -> str:
        """The compiler's package and jax, with their versions."""
        return ", ".join(f"{name} {_version(name)}" for name in (self._package, "jax"))

    def check_compiler(self) -> None:
        """Refuses a topology whose compiler is not installed; nothing is started.

        Raises:
            NoTopology: says how to install it.
        """
        if importlib.util.find_spec(self._package.replace("-", "_")) is None:
            compiler = "XLA's GPU compiler" if isinstance(self.chip, Card) else "the TPU compiler"
            raise NoTopology(
                f"--topology={self.name}: {compiler} is not installed; get it with "
                f"{self._install}, no {'GPU' if isinstance(self.chip, Card) else 'TPU'} is needed"
            )

    @property
    def _package(self) -> str:
        return "jax-cuda13-plugin" if isinstance(self.chip, Card) else "libtpu"

    @property
    def _install(self) -> str:
        return f'pip install -e ".[{"cuda" if isinstance(self.chip, Card) else "plan"}]"'

    def describe(self) -> list[Any]:
        """Returns its jax devices, which compile and do not run; see `environment`.

        Raises:
            NoTopology: the compiler knows none of this shape, or is not installed.
        """
        from jax.experimental import topologies

        try:
            if isinstance(self.chip, Card):
                shape = f"1x1x{self.chips}"
                return topologies.get_topology_desc(
                    platform="cuda",
                    topology_name="",
                    target_config=target_description(self.chip),
                    topology=shape,
                ).devices
            megacore = {"chip_config_name": "megacore"} if self.chip.name == "v4" else {}
            host = {"chips_per_host_bounds": (1, 1, 1)} if self.chips == self.slices else {}
            slices = {"num_slices": self.slices} if self.slices > 1 else {}
            return topologies.get_topology_desc(
                platform="tpu",
                topology_name=":".join(self.name.split(":")[:2]),
                **megacore,
                **host,
                **slices,
            ).devices
        except Exception as error:  # whatever a plugin raises
            raise NoTopology(
                f"--topology={self.name}: its compiler says {str(error).splitlines()[0]!r}. "
                f"It comes with {self._install}."
            ) from error


def parse_topology(name: str) -> Topology:
    """Returns what a name means: KIND:SHAPE in chips, such as v5e:4x8, or CARD:COUNT.

    Behind a shape may stand the number of such slices: v5e:16x16:2.

    Raises:
        NoTopology: no such thing.
    """
    kind, _, shape = name.partition(":")
    known = [*CHIPS, *CARDS]
    if kind not in known:
        raise NoTopology(f"--topology={name}: {nearest(kind, known)}")
    if kind in CARDS:
        if not _COUNT.fullmatch(shape or "1") or int(shape or "1") > _MOST_CARDS:
            raise NoTopology(f"--topology={name}: write {kind}:COUNT, from 1 to {_MOST_CARDS}.")
        count = int(shape or "1")
        return Topology(f"{kind}:{count}", CARDS[kind], count)
    chip = CHIPS[kind]
    shape, _, count = shape.partition(":")
    slices = int(count or "1") if _COUNT.fullmatch(count or "1") else 0
    if slices == 0 or (slices > 1 and not chip.dcn):
        several = ", ".join(known for known, chip in CHIPS.items() if chip.dcn)
        raise NoTopology(
            f"--topology={name}: write {kind}:SHAPE:SLICES for several slices, of {several}."
        )
    sizes = [int(n) for n in shape.split("x")] if re.fullmatch(r"\d+(x\d+)*", shape) else []
    if len(sizes) != chip.axes or 0 in sizes:
        example = "x".join("4" * chip.axes)
        raise NoTopology(
            f"--topology={name}: write {kind}:SHAPE in chips with {chip.axes} numbers, "
            f"such as {kind}:{example}."
        )
    whole = all(n % host == 0 for n, host in zip(sizes, (2, 2, 1), strict=False))
    if math.prod(sizes) > 1 and not whole:
        raise NoTopology(
            f"--topology={name}: a host has 2x2 chips, so the first two numbers are even."
        )
    one = f"{kind}:{shape}"
    return Topology(
        f"{one}:{slices}" if slices > 1 else one, chip, slices * math.prod(sizes), slices
    )


def usual(chip: Chip) -> list[Topology]:
    """Returns the slices of a chip, or numbers of cards, that are offered, the smallest first."""
    if isinstance(chip, Card):
        return [parse_topology(f"{chip.name}:{count}") for count in (1, 2, 4, 8)]
    if chip.axes == 3:
        shapes = ["2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"]
    else:
        alone = ["1x1"] if chip.name in ("v5e", "v6e") else []
        rows = [] if chip.name in ("v2", "v3") else ["2x4"]
        shapes = [*alone, "2x2", *rows, "4x4", "4x8", "8x8", "8x16", "16x16"]
    return [parse_topology(f"{chip.name}:{shape}") for shape in shapes]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def target_description(card: Card) -> str:
    """Returns a card as XLA's compiler reads it: a GpuTargetConfig in protobuf's text format."""
    fields = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 * 2**10,
        "shared_memory_per_core": card.shared,
        "threads_per_core_limit": card.threads,
        "core_count": card.cores,
        "fpus_per_core": 128,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "memory_bandwidth": int(card.bandwidth),
        "l2_cache_size": card.l2,
        "clock_rate_ghz": card.clock,
        "device_memory_size": int(card.hbm),
        "shared_memory_per_block_optin": card.shared - 2**10,
        "registers_per_core_limit": 2**16,
        "registers_per_block_limit": 2**16,
    }
    major, minor = card.capability
    return (
        f"gpu_device_info {{ {' '.join(f'{name}: {value}' for name, value in fields.items())} "
        f"cuda_compute_capability {{ major: {major} minor: {minor} }} }} "
        'platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 } '
        f'runtime_version {{ major: 13 }} device_description_str: "{card.description}"'
    )
