"""What accelerators can do, by their makers' pages; and where the numbers are from.

Arithmetic, memory and network are peaks of the data sheets. `limit` of a TPU is what its compiler
(libtpu 0.0.52) calls available: it was asked with a program that needs 400 GiB. What no page was
found to say is named in `assumed`, and plans print it.
"""

import dataclasses
from typing import Any

GIB = 2.0**30

_TPU = "Google Cloud's TPU pages and the scaling book (jax-ml)"
_NVIDIA = "NVIDIA's data sheets, written down from memory"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """A chip, or a graphics card.

    Attributes:
        name: as topologies name it.
        devices: jax devices of a chip; two of one chip share all that follows alike.
        hbm: memory in bytes.
        limit: what a program may hold on one device, in bytes.
        flops: products and additions in bfloat16 a second, dense.
        bandwidth: of the memory, bytes a second.
        link: of one link to a neighbour, one way, bytes a second; a ring over an axis of the torus
            uses two. Of cards, half of what NVLink or PCIe moves one way, so that the same holds.
        dcn: of the data-centre network between slices, bytes a second; 0 where no page says it.
        axes: of the torus of a slice; 0 of cards.
        source: where the numbers are from.
        assumed: those of its numbers that no page was found to say.
    """

    name: str
    devices: int = 1
    hbm: float
    limit: float
    flops: float
    bandwidth: float
    link: float
    dcn: float = 0.0
    axes: int = 2
    source: str = _TPU
    assumed: tuple[str, ...] = ()


CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="v2",
            devices=2,
            hbm=16 * GIB,
            limit=7.48 * GIB,
            flops=45e12,
            bandwidth=700e9,
            link=62e9,
            assumed=("bandwidth", "link"),
        ),
        Chip(
            name="v3",
            devices=2,
            hbm=32 * GIB,
            limit=15.48 * GIB,
            flops=123e12,
            bandwidth=900e9,
            link=100e9,
        ),
        Chip(
            name="v4",  # megacore: its two cores are one device
            hbm=32 * GIB,
            limit=30.75 * GIB,
            flops=275e12,
            bandwidth=1200e9,
            link=45e9,
            axes=3,
        ),
        Chip(
            name="v5e",
            hbm=16 * GIB,
            limit=15.75 * GIB,
            flops=197e12,
            bandwidth=819e9,
            link=45e9,
            dcn=3.125e9,
        ),
        Chip(
            name="v5p",
            hbm=95 * GIB,
            limit=95.73 * GIB,
            flops=459e12,
            bandwidth=2765e9,
            link=90e9,
            dcn=6.25e9,
            axes=3,
        ),
        Chip(
            name="v6e",
            hbm=32 * GIB,
            limit=31.24 * GIB,
            flops=918e12,
            bandwidth=1638e9,
            link=90e9,
            dcn=12.5e9,
        ),
        Chip(
            name="tpu7x",
            devices=2,
            hbm=192 * GIB,
            limit=94.74 * GIB,
            flops=2307e12,
            bandwidth=7380e9,
            link=90e9,  # as of v5p, whose links carry 1200 GB/s together as well
            dcn=12.5e9,
            axes=3,
            assumed=("link",),
        ),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card(Chip):
    """A graphics card, and what XLA's compiler asks about it.

    Attributes:
        description: the card's name, as the driver has it.
        capability: CUDA compute capability.
        cores: streaming multiprocessors.
        clock: GHz.
        l2: second-level cache in bytes.
        shared: shared memory of a multiprocessor in bytes; a block may have 1 KiB less.
        threads: of a multiprocessor.
    """

    description: str
    capability: tuple[int, int]
    cores: int
    clock: float
    l2: int
    shared: int
    threads: int
    axes: int = 0
    source: str = _NVIDIA


def _card(name: str, gibibytes: float, **rest: Any) -> Card:
    """XLA allocates up to 93 % of a card: the launch programs' XLA_PYTHON_CLIENT_MEM_FRACTION."""
    memory = gibibytes * GIB
    return Card(name=name, hbm=memory, limit=0.93 * memory, **rest)


# Memory is what the driver shows of it: less than the name says where ECC takes its part.
CARDS = {
    card.name: card
    for card in (
        _card(
            "gpu16",
            16.0,
            description="NVIDIA GeForce RTX 4080",
            flops=97e12,
            bandwidth=717e9,
            link=16e9,  # PCIe 4.0 x16
            capability=(8, 9),
            cores=76,
            clock=2.51,
            l2=64 * 2**20,
            shared=100 * 2**10,
            threads=1536,
        ),
        _card(
            "gpu24",
            24.0,
            description="NVIDIA GeForce RTX 4090",
            flops=165e12,
            bandwidth=1008e9,
            link=16e9,  # PCIe 4.0 x16
            capability=(8, 9),
            cores=128,
            clock=2.52,
            l2=72 * 2**20,
            shared=100 * 2**10,
            threads=1536,
        ),
        _card(
            "gpu32",
            31.8,
            description="NVIDIA GeForce RTX 5090",
            flops=210e12,
            bandwidth=1792e9,
            link=32e9,  # PCIe 5.0 x16
            capability=(12, 0),
            cores=170,
            clock=2.41,
            l2=96 * 2**20,
            shared=100 * 2**10,
            threads=1536,
        ),
        _card(
            "gpu48",
            45.0,
            description="NVIDIA L40S",
            flops=362e12,
            bandwidth=864e9,
            link=16e9,  # PCIe 4.0 x16
            capability=(8, 9),
            cores=142,
            clock=2.52,
            l2=96 * 2**20,
            shared=100 * 2**10,
            threads=1536,
        ),
        _card(
            "gpu80",
            79.0,
            description="NVIDIA H100 80GB HBM3",
            flops=989e12,
            bandwidth=3350e9,
            link=225e9,  # NVLink 4
            capability=(9, 0),
            cores=132,
            clock=1.98,
            l2=50 * 2**20,
            shared=228 * 2**10,
            threads=2048,
        ),
        _card(
            "gpu141",
            140.0,
            description="NVIDIA H200",
            flops=989e12,
            bandwidth=4800e9,
            link=225e9,  # NVLink 4
            capability=(9, 0),
            cores=132,
            clock=1.98,
            l2=50 * 2**20,
            shared=228 * 2**10,
            threads=2048,
        ),
    )
}
