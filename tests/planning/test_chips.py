"""Chips, cards and topologies by name."""

import dataclasses

import pytest

from vidpref.planning.chips import CARDS, CHIPS, GIB
from vidpref.planning.topologies import (
    NoTopology,
    parse_topology,
    target_description,
    usual,
)


def test_every_kind_is_there_and_its_limit_lies_below_its_memory():
    assert list(CHIPS) == ["v2", "v3", "v4", "v5e", "v5p", "v6e", "tpu7x"]
    assert list(CARDS) == ["gpu16", "gpu24", "gpu32", "gpu48", "gpu80", "gpu141"]
    for chip in (*CHIPS.values(), *CARDS.values()):
        assert 0.9 < chip.limit / (chip.hbm / chip.devices) < 1.01, chip.name
        assert chip.source
        assert set(chip.assumed) <= {field.name for field in dataclasses.fields(chip)}
        # arithmetic grows faster than memory: all need 50 to 700 FLOP a byte
        assert 50 < chip.flops / chip.bandwidth < 700, chip.name


@pytest.mark.parametrize(
    ("name", "chips", "devices"),
    [
        ("v3:8x8", 64, 128),  # 128 cores: the paper's
        ("v4:4x4x4", 64, 64),  # megacore: a chip is a device
        ("v5e:1x1", 1, 1),
        ("v5e:2x4", 8, 8),
        ("tpu7x:2x2x1", 4, 8),
        ("gpu24", 1, 1),
        ("gpu80:8", 8, 8),
        ("v5e:16x16:2", 512, 512),  # two slices
        ("v6e:2x4:1", 8, 8),
    ],
)
def test_names_say_how_many_devices_there_are(name, chips, devices):
    found = parse_topology(name)
    assert (found.chips, found.devices) == (chips, devices)
    assert found.slices == (2 if name.endswith(":2") else 1)
    assert parse_topology(found.name) == found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v7:2x2", "known|did you mean"),
        ("v5litepod:4x4", "known|did you mean"),
        ("v5e", "v5e:4x4"),
        ("v5e:4x4x4", "2 numbers"),
        ("v5p:4x4", "3 numbers"),
        ("v5e:3x4", "even"),
        ("v5e:0x4", "2 numbers"),
        ("gpu24:9", "from 1 to 8"),
        ("gpu24:0", "from 1 to 8"),
        ("gpu24:2x2", "from 1 to 8"),
        ("v5e:4x4:0", "SLICES"),
        ("v5e:4x4:two", "SLICES"),
        ("v3:4x4:2", "of v5e, v5p, v6e, tpu7x"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(name, said):
    with pytest.raises(NoTopology, match=said) as error:
        parse_topology(name)
    assert str(error.value).startswith(f"--topology={name}: ")


@pytest.mark.parametrize("chip", [*CHIPS.values(), *CARDS.values()], ids=lambda chip: chip.name)
def test_usual_slices_grow(chip):
    sizes = [topology.chips for topology in usual(chip)]
    assert sizes == sorted(set(sizes))


def test_a_card_is_described_as_the_compiler_wants_it():
    text = target_description(CARDS["gpu80"])
    assert "cuda_compute_capability { major: 9 minor: 0 }" in text
    assert f"memory_bandwidth: {3350 * 10**9}" in text
    assert text.count("{") == text.count("}")
    assert CARDS["gpu24"].limit < 24 * GIB


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("v5e:8x16", "v5e:2x2"),
        ("v5p:4x4x4:2", "v5p:2x2x1"),
        ("v3:8x8", "v3:2x2"),
        ("v6e:1x1", "v6e:1x1"),
        ("gpu80:8", "gpu80:8"),
    ],
)
def test_a_host_has_four_chips_or_all_cards(name, host):
    assert parse_topology(name).host.name == host
