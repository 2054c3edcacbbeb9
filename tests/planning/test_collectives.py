"""What compiled programs of eight devices send and multiply, against what they were written to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidpref.planning.collectives import Collective, collectives, seconds
from vidpref.planning.hlo import parse
from vidpref.planning.hlo_flops import hlo_flops
from vidpref.planning.traffic import memory_traffic

ROWS, WIDTH, TURNS = 16, 32, 5
MESH = {"data": 4, "fsdp": 2}


@pytest.fixture(scope="module")
def program():
    """By hand: over fsdp a gathering in each turn, then a sum over data, and an exchange."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), tuple(MESH))

    def local(x, w):
        def turn(x, _):
            whole = jax.lax.all_gather(w, "fsdp", axis=0, tiled=True)
            return jnp.tanh(x @ whole), None

        x, _ = jax.lax.scan(turn, x, length=TURNS)
        total = jax.lax.psum(x, "data")
        ring = [(i, (i + 1) % 4) for i in range(4)]
        return total, jax.lax.ppermute(x, "data", ring)

    rows, split = PartitionSpec("data"), PartitionSpec("fsdp")
    f = jax.shard_map(
        local, mesh=mesh, in_specs=(rows, split), out_specs=(PartitionSpec(), rows), check_vma=False
    )
    arguments = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for shape, spec in (((ROWS, WIDTH), rows), ((WIDTH, WIDTH), split))
    ]
    return parse(jax.jit(f).lower(*arguments).compile().as_text())


def test_kinds_axes_bytes_and_turns_are_found(program):
    found = {one.kind: one for one in collectives(program, MESH)}
    held = ROWS // 4 * WIDTH * 4
    gathered = WIDTH * WIDTH * 4
    assert found["all-reduce"] == Collective("all-reduce", "data", 4, 1, held)
    assert found["collective-permute"] == Collective("collective-permute", "data", 4, 1, held)
    # the compiler may take out of the loop what is the same in each turn
    gathering = found["all-gather"]
    assert (gathering.axes, gathering.group) == ("fsdp", 2)
    assert gathering.calls in (1, TURNS)
    assert gathering.bytes == gathering.calls * gathered
    assert len(found) == 3


def test_products_in_a_loop_count_once_a_turn(program):
    assert hlo_flops(program) == TURNS * 2 * (ROWS // 4) * WIDTH * WIDTH


def test_sums_of_rows_over_both_axes_are_named_so():
    text = """
ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %sum = f32[8]{0} all-reduce(%p), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%add
}
"""
    assert collectives(parse(text), MESH) == [Collective("all-reduce", "data+fsdp", 8, 1, 32)]


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("{{0,2,4,6},{1,3,5,7}}", "data"),
        ("{{0,1},{2,3},{4,5},{6,7}}", "fsdp"),
        ("[2,4]<=[4,2]T(1,0)", "data"),
        ("[4,2]<=[8]", "fsdp"),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", "fsdp"),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", "data"),
        ("mesh['axis_0'=8] {'axis_0':(1)4}", "data"),
        ("mesh['axis_0'=8] {'axis_0':(4)2}", "fsdp"),
        ("{{0},{1},{2},{3},{4},{5},{6},{7}}", None),
    ],
)
def test_groups_are_read_in_every_spelling(groups, axes):
    text = f"""
ENTRY %main (p: bf16[4,6]) -> bf16[1,6] {{
  %p = bf16[4,6]{{1,0}} parameter(0)
  ROOT %part = bf16[1,6]{{1,0}} reduce-scatter(%p), replica_groups={groups}, dimensions={{0}}
}}
"""
    found = collectives(parse(text), MESH)
    assert [one.axes for one in found] == ([axes] if axes else [])
    if found:  # what is summed is larger by the group than what each keeps
        assert found[0].bytes == 12 * found[0].group


def test_a_gathering_that_begins_and_ends_counts_its_result_once():
    text = """
ENTRY %main (p: bf16[4,6]) -> bf16[8,6] {
  %p = bf16[4,6]{1,0} parameter(0)
  %begun = (bf16[4,6]{1,0}, bf16[8,6]{1,0}) all-gather-start(%p), replica_groups=[4,2]<=[8]
  ROOT %whole = bf16[8,6]{1,0} all-gather-done(%begun)
}
"""
    assert collectives(parse(text), MESH) == [Collective("all-gather", "fsdp", 2, 1, 96)]


def test_a_gathering_that_is_spread_over_fusions_counts_once():
    text = """
%first (a: bf16[4,6]) -> bf16[8,6] {
  %a = bf16[4,6]{1,0} parameter(0)
  ROOT %part = bf16[8,6]{1,0} all-gather(%a), replica_groups=[4,2]<=[8], CHAIN
}

%second (b: bf16[4,6]) -> bf16[8,6] {
  %b = bf16[4,6]{1,0} parameter(0)
  ROOT %part = bf16[8,6]{1,0} all-gather(%b), replica_groups=[4,2]<=[8], CHAIN
}

ENTRY %main (p: bf16[4,6]) -> bf16[8,6] {
  %p = bf16[4,6]{1,0} parameter(0)
  %begun = bf16[8,6]{1,0} fusion(%p), kind=kCustom, calls=%first
  ROOT %whole = bf16[8,6]{1,0} fusion(%p), kind=kCustom, calls=%second
}
""".replace("CHAIN", 'frontend_attributes={chain_id="7"}')
    assert collectives(parse(text), MESH) == [Collective("all-gather", "fsdp", 2, 1, 96)]


def test_of_what_a_loop_slices_the_slices_are_read():
    text = """
%body (t: (s32[], f32[10,4])) -> (s32[], f32[10,4]) {
  %t = (s32[], f32[10,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %stack = f32[10,4]{1,0} get-tuple-element(%t), index=1
  %layer = f32[1,4]{1,0} fusion(%stack, %i), kind=kLoop, calls=%cut
  ROOT %out = (s32[], f32[10,4]{1,0}) tuple(%i, %stack)
}

%cut (a: f32[10,4], b: s32[]) -> f32[1,4] {
  %a = f32[10,4]{1,0} parameter(0)
  %b = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %one = f32[1,4]{1,0} dynamic-slice(%a, %b, %zero), dynamic_slice_sizes={1,4}
}

%condition (t: (s32[], f32[10,4])) -> pred[] {
  %t = (s32[], f32[10,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %n = s32[] constant(10)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p: (s32[], f32[10,4])) -> (s32[], f32[10,4]) {
  %p = (s32[], f32[10,4]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[10,4]{1,0}) while(%p), condition=%condition, body=%body
}
"""
    # a turn: a row read, the index, a row written; and the comparison of the loop is not a turn
    assert memory_traffic(parse(text)) == 10 * (16 + 4 + 16)


@pytest.mark.parametrize(
    ("kind", "factor"),
    [("all-gather", 3 / 4), ("reduce-scatter", 3 / 4), ("all-reduce", 3 / 2), ("all-to-all", 1)],
)
def test_times_are_those_of_a_ring(kind, factor):
    found = seconds(Collective(kind, "fsdp", 4, 1, 2e9), link=1e9)
    assert found == pytest.approx(factor)


def test_between_slices_a_device_hands_over_what_its_slice_has_summed():
    text = """
ENTRY %main (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0} parameter(0)
  %sum = f32[8,128]{1,0} all-reduce(%p), replica_groups={{0,1},{2,3}}, to_apply=%add
  %token = token[] after-all()
  %out = (f32[8,128]{1,0}, u32[], token[]) send(%sum, %token), channel_id=2, MEGASCALE
  %in = (f32[8,128]{1,0}, u32[], token[]) recv(%token), channel_id=1, MEGASCALE
  ROOT %out-done = token[] send-done(%out), channel_id=2
}
""".replace("MEGASCALE", 'frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}')
    inside, between = collectives(parse(text), MESH, slices=2)
    assert inside == Collective("all-reduce", "fsdp", 2, 1, 4096)
    assert between == Collective("all-reduce", "slices", 2, 1, 4096)
    assert seconds(between, link=1e9, dcn=1e6) == pytest.approx(4096 / 1e6)
    four = Collective("all-to-all", "slices", 4, 1, 1e6)
    assert seconds(four, link=1e9, dcn=1e6) == pytest.approx(3.0)


def test_groups_in_a_spelling_that_nobody_knows_are_refused():
    text = """
ENTRY %main (p: f32[8]) -> f32[8] {
  ROOT %sum = f32[8]{0} all-reduce(%p), replica_groups=new(3), to_apply=%add
}
"""
    with pytest.raises(ValueError, match="not understood: replica_groups=new"):
        collectives(parse(text), MESH)


def test_a_copy_into_the_core_is_read_once():
    text = """
ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(256)} parameter(0)
  %begun = (f32[8]{0:T(256)S(1)}, f32[8]{0:T(256)}, u32[]{:S(2)}) copy-start(%p)
  %near = f32[8]{0:T(256)S(1)} copy-done(%begun)
  ROOT %out = f32[8]{0:T(256)} negate(%near)
}
"""
    assert memory_traffic(parse(text)) == 32 + 32


def test_text_of_something_else_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        parse("module {}")
