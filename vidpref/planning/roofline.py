"""How long a program takes at best, and where nothing overlaps, by what its chip can do."""

import dataclasses
from collections.abc import Sequence

from vidpref.planning.chips import Card, Chip
from vidpref.planning.collectives import Collective, seconds

# What well written programs reach of the data sheet's peaks. Real runs lie between both ends.
REACHED = 0.5
ASSUMPTIONS = (
    "Roofline: bfloat16 peak, memory bandwidth and links of the data sheet (vidpref/planning/"
    "chips.py); collectives run as rings along one axis of the torus; cores of a chip share all. "
    "From: the slowest of the three alone, the others hidden behind it. To: one after the other, "
    f"each at {REACHED:.0%} of its peak. Nothing was run."
)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one call of a program.

    Attributes:
        compute: of its products at the chip's peak.
        memory: of its traffic with the device's memory.
        network: of its collectives.
    """

    compute: float
    memory: float
    network: float

    @property
    def least(self) -> float:
        """With everything else hidden behind the slowest."""
        return max(self.compute, self.memory, self.network)

    @property
    def most(self) -> float:
        """With nothing hidden, at `REACHED` of every peak."""
        return (self.compute + self.memory + self.network) / REACHED

    @property
    def bound(self) -> str:
        """What the least time is that of: compute, memory or network."""
        return max(("compute", "memory", "network"), key=lambda name: getattr(self, name))


def roofline(
    chip: Chip, flops: float, traffic: float, collectives: Sequence[Collective]
) -> Roofline:
    """Returns the times of a program.

    Args:
        chip: that it runs on.
        flops: products and additions of one device.
        traffic: bytes of one device's memory.
        collectives: what it sends.
    """
    shared = 1 if isinstance(chip, Card) else chip.devices
    link, dcn = chip.link / shared, chip.dcn / shared
    network = sum((seconds(one, link, dcn) for one in collectives), 0.0)
    return Roofline(flops / (chip.flops / shared), traffic / (chip.bandwidth / shared), network)


def mfu(needed: float, time: float, chip: Chip, devices: int) -> float:
    """Returns the share of the chips' peak that goes into what the method needs.

    Args:
        needed: operations of a call over all devices, without what is computed again.
        time: seconds of a call.
        chip: what the devices are of.
        devices: number of devices.
    """
    return needed / time / (chip.flops / chip.devices * devices) if time else 0.0
