"""One GPU instead of a pod: `flow_dpo:wan2_1_1_3b@24gb` is that scale, laid out for a 24 GB card.

Paper:    none. Rows of an update go through the network a few at a time (`accumulate`), clips are
          encoded and drawn one by one; an update has 8 rows, and there are 400 of them. Adapters
          are trained, also where the scale trains all weights; their base is kept in bfloat16
          (`align.lora.base`). On the smaller cards, what blocks keep for gradients lies in the
          host's memory (`remat="offload"`): 6 GiB a pair of Wan2.1-1.3B.
Command:  python launch/tpu_run.py --config=flow_dpo:wan2_1_1_3b@24gb --workdir=runs/wan
          --config.model.init=FOLDER --config.data.pairs=pairs.csv
Hardware: one NVIDIA GPU; @16gb, @24gb, @32gb, @48gb and @80gb.
Number:   what every program of the run holds was compiled for a GPU without one (measured:
          docs/measurements.md, "One GPU"); none was run.
"""

import dataclasses

from ml_collections import ConfigDict

from vidpref.config.nearest import nearest

CARDS = ("16gb", "24gb", "32gb", "48gb", "80gb")


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a scale trains on a card.

    Attributes:
        rows: rows that go through the network at once.
        remat: see `scan_blocks`.
    """

    rows: int
    remat: str = "full"


# A card that is not there is too small, or has no need of a layout of its own.
_LAYOUTS = {
    "wan2_1_1_3b": {
        "16gb": _Layout(1, "offload"),
        "24gb": _Layout(1),
        "48gb": _Layout(2),
        "80gb": _Layout(4),
    },
    "wan2_1_14b": {"80gb": _Layout(1)},
    "cogvideox_2b": {"24gb": _Layout(2), "48gb": _Layout(4), "80gb": _Layout(8)},
    "cogvideox_5b": {"32gb": _Layout(1, "offload"), "48gb": _Layout(2), "80gb": _Layout(4)},
    "cogvideox_5b_i2v": {"80gb": _Layout(1)},
}
_UPDATE = 8  # rows of an update


def layouts(scale: str) -> tuple[str, ...]:
    """Returns the cards that a scale has a layout for, the smallest first."""
    return tuple(_LAYOUTS.get(scale, ()))


def use(c: ConfigDict, card: str) -> None:
    """Lays a config out for one GPU.

    Args:
        c: config of one of the scales of a public generator.
        card: one of `CARDS`.

    Raises:
        ValueError: an unknown card, or a scale that needs more than it has.
    """
    if card not in CARDS:
        raise ValueError(f"--config={c.name}:{c.scale}@{card}: {nearest(card, CARDS)}")
    if card not in _LAYOUTS.get(c.scale, {}):
        known = "; ".join(f"{scale}@{', @'.join(cards)}" for scale, cards in _LAYOUTS.items())
        raise ValueError(
            f"--config={c.name}:{c.scale}@{card}: not for such a card. There are {known}; others "
            "take several GPUs, with config.mesh.fsdp"
        )
    layout = _LAYOUTS[c.scale][card]
    c.model[c.model.name].remat = layout.remat
    c.mesh.update({"fsdp": 1, "context": 1})
    c.model.tiled = c.model.name == "cogvideox"  # its decoder holds 17 GiB for a whole frame
    c.data.encode_batch = c.sampler.batch_size = 1
    c.align.train.update(
        {"steps": 400, "batch_size": _UPDATE, "accumulate": _UPDATE // layout.rows}
    )
    if not c.align.lora.rank:
        c.align.lora.update({"rank": 64, "alpha": 128.0})
