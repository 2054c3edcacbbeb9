"""The training steps of all configs, lowered for a TPU slice."""

import json

import pytest

from tests import tpu_compiler
from vidpref.config.by_name import config_module, config_names
from vidpref.config.online import BACKPROPAGATED, FROM_ADVANTAGES
from vidpref.generation.adopt import load_config
from vidpref.stages.planning import trained_sections

LOWER = """
import json, sys
import jax
from jax.experimental import topologies
from vidpref.generation.adopt import load_config
from vidpref.stages.planning import plan_section
from vidpref.training.sharding import make_mesh

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices
for argument in sys.argv[1:]:
    spec, section = argument.split("/")
    config = load_config(spec)
    mesh = make_mesh({"data": -1, "fsdp": 2, "context": min(config.mesh.context, 2)}, devices)
    planned = plan_section(config, section, mesh)
    text = planned.lower().as_text()
    assert "stablehlo.dot_general" in text
    state = planned.training.plan.state
    names = ("clips", "states", "state")
    clips = [planned.batch[name] for name in names if name in planned.batch]
    found = {
        "batch": sorted(planned.batch),
        "frozen": sorted(planned.frozen),
        "follows": state.reference is not None,
        "k": clips[0].shape[1],
        "trained": sum(x.size for x in jax.tree.leaves(state.params)),
        "network": sum(x.size for x in jax.tree.leaves(planned.params)),
    }
    print(json.dumps([argument, found]), flush=True)
"""


def cases():
    """(case, whether a network and a method in it are new) of every step of every config."""
    seen, found = set(), []
    for name in config_names():
        for scale in config_module(name).SCALES:
            config = load_config(f"{name}:{scale}")
            for section in trained_sections(config):
                model = config.superres.model if section == "superres" else config.model
                network = section, model.name, str(model[model.name])
                method = (name,) if section == "align" else (section,)
                found.append((f"{name}:{scale}/{section}", not {network, method} <= seen))
                seen |= {network, method}
    return found


CASES = cases()


def lowered(chosen):
    printed = tpu_compiler.run("-c", LOWER, *chosen).splitlines()
    return dict(map(json.loads, printed))


def check(found):
    """What of a step has been forgotten before: the planned step has it where the run has it."""
    for case, step in found.items():
        spec, section = case.split("/")
        config = load_config(spec)
        align = config.align if section == "align" else None
        method = align.method if align else "sft"
        assert ("real" in step["batch"]) == bool(align and align.real_weight), case
        assert ("motion" in step["batch"]) == (method == "mcdpo"), case
        assert ("preference" in step["batch"]) == (method == "nrg"), case
        moves = align and (align.train.reference_decay or method in FROM_ADVANTAGES)
        assert step["follows"] == bool(moves), case
        beside = ["judge"] if method in BACKPROPAGATED else []
        beside += ["pretrained"] if method == "diffusion_nft" else []
        if align and method != "nrg" and align.lora.rank:
            assert step["frozen"] == ["base", *beside], case
            assert step["trained"] < 0.2 * step["network"], case
        else:
            refers = method in ("dpo", "mcdpo", "kto") and not step["follows"]
            assert step["frozen"] == [*beside, *(["reference"] if refers else [])], case
            assert step["trained"] == step["network"], case


@tpu_compiler.needs_libtpu
@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_every_network_and_every_method_has_a_step(part):
    chosen = [case for case, new in CASES if new][part::3]
    found = lowered(chosen)
    assert list(found) == chosen
    check(found)


@pytest.mark.slow
@tpu_compiler.needs_libtpu
@pytest.mark.parametrize("part", range(3))
def test_so_has_every_other_pair_of_them(part):
    chosen = [case for case, new in CASES if not new][part::3]
    found = lowered(chosen)
    assert list(found) == chosen
    check(found)
