"""A run on one topology: its programs, how often each is called, and what that takes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from vidpref.planning.program_plan import ProgramPlan
from vidpref.planning.roofline import ASSUMPTIONS, Roofline, mfu, roofline
from vidpref.planning.topologies import Topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run on one topology.

    Attributes:
        config: NAME:SCALE.
        overrides: of the config.
        topology: what it runs on.
        programs: all of its programs.
        calls: {program: calls}, of those whose calls are known.
        price: of a chip and hour, in whatever money; None: not known.
    """

    config: str
    overrides: Sequence[str]
    topology: Topology
    programs: Sequence[ProgramPlan]
    calls: dict[str, int]
    price: float | None = None

    @property
    def fits(self) -> bool:
        """Whether every program fits."""
        return all(program.fits for program in self.programs)

    def time(self, program: ProgramPlan) -> Roofline | None:
        """Returns the times of one call; None of what did not compile."""
        if program.flops is None or program.traffic is None:
            return None
        flops = max(program.flops.total / program.devices, program.hlo_flops or 0.0)
        return roofline(self.topology.chip, flops, program.traffic, program.collectives)

    def mfu(self, program: ProgramPlan) -> float | None:
        """Returns the share of the peak at the roofline, of what is not computed again."""
        time = self.time(program)
        if time is None or program.flops is None:
            return None
        needed = program.flops.total - program.flops.rematerialized
        return mfu(needed, time.least, self.topology.chip, program.devices)

    def hours(self, program: ProgramPlan) -> tuple[float, float] | None:
        """Returns the hours of all calls, from and to; None where time or calls are not known."""
        time, calls = self.time(program), self.calls.get(program.name)
        if time is None or calls is None:
            return None
        return calls * time.least / 3600, calls * time.most / 3600

    def money(self, hours: tuple[float, float] | None) -> tuple[float, float] | None:
        """Returns what hours cost, from and to; None where hours or price are not known."""
        if hours is None or self.price is None:
            return None
        rate = self.price * self.topology.chips
        return rate * hours[0], rate * hours[1]

    @property
    def total_hours(self) -> tuple[float, float]:
        """Hours of all programs whose hours are known."""
        known = [hours for program in self.programs if (hours := self.hours(program))]
        return sum((low for low, _ in known), 0.0), sum((high for _, high in known), 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Returns it for JSON; times in seconds, sizes in bytes."""
        chip = dataclasses.asdict(self.topology.chip)
        found = []
        for program in self.programs:
            time, hours = self.time(program), self.hours(program)
            found.append(
                {
                    **program.to_dict(),
                    "fits": program.fits,
                    "seconds": time
                    and {**dataclasses.asdict(time), "from": time.least, "to": time.most},
                    "mfu": self.mfu(program),
                    "calls": self.calls.get(program.name),
                    "hours": hours,
                    "money": self.money(hours),
                }
            )
        return {
            "config": self.config,
            "overrides": list(self.overrides),
            "topology": self.topology.name,
            "compiler": self.topology.compiler,
            "chip": chip,
            "chips": self.topology.chips,
            "devices": self.topology.devices,
            "fits": self.fits,
            "price": self.price,
            "hours": self.total_hours,
            "money": self.money(self.total_hours),
            "assumptions": ASSUMPTIONS,
            "programs": found,
        }
