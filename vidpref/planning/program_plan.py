"""What is known of one program of a run, compiled for one topology."""

import dataclasses
import math
from typing import Any

from vidpref.planning.collectives import Collective
from vidpref.planning.flops import Flops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one device.

    Attributes:
        peak: the most that is held at once.
        limit: what there is.
        parts: of what the program is given, {what: bytes}.
        on_host: activations that lie in the host's memory.
    """

    peak: float
    limit: float
    parts: dict[str, float]
    on_host: float = 0.0

    @property
    def arguments(self) -> float:
        """All that the program is given."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the device has as much."""
        return self.peak <= self.limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramPlan:
    """A program of a run.

    Attributes:
        name: of `programs`.
        refused: why it cannot be compiled, for another reason than memory; "" where it can.
        parameters: parameters of the networks that it is given.
        mesh: size of each axis.
        memory: of one device; None if refused.
        flops: of all devices.
        hlo_flops: of one device, counted in what the compiler made; None where it refused, and of
            cards.
        traffic: bytes of one device's memory that are read and written; None where it refused.
        collectives: what is sent.
        unread: why what the compiler made cannot be read: then `hlo_flops`, `traffic` and
            `collectives` are not known, and times neither; "" where it can.
        trace_seconds: time to trace and lower it.
        compile_seconds: time to compile it.
        cpu_seconds: CPU time of both.
        host_bytes: peak memory of the process that compiled.
        digest: of what the compiler was given, "" where nothing was.
    """

    name: str
    refused: str = ""
    parameters: int = 0
    mesh: dict[str, int] = dataclasses.field(default_factory=dict)
    memory: Memory | None = None
    flops: Flops | None = None
    hlo_flops: float | None = None
    traffic: float | None = None
    collectives: tuple[Collective, ...] = ()
    unread: str = ""
    trace_seconds: float = 0.0
    compile_seconds: float = 0.0
    cpu_seconds: float = 0.0
    host_bytes: float = 0.0
    digest: str = ""

    @property
    def devices(self) -> int:
        """Devices that compute it together; a host's own judge has those of its host."""
        return math.prod(self.mesh.values())

    @property
    def fits(self) -> bool:
        """Whether it compiles and the devices have the memory."""
        return self.memory is not None and self.memory.fits

    def to_dict(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return dataclasses.asdict(self)


def from_dict(fields: dict[str, Any]) -> ProgramPlan:
    """Returns what `to_dict` made."""
    memory, flops = fields["memory"], fields["flops"]
    return ProgramPlan(
        **{
            **fields,
            "memory": Memory(**memory) if memory else None,
            "flops": Flops(**flops) if flops else None,
            "collectives": tuple(Collective(**one) for one in fields["collectives"]),
        }
    )
