"""A stage without enough memory says which it is and what would make it smaller."""

import jax
import pytest

from vidpref.config.fields import lookup
from vidpref.config.schema import FIELDS
from vidpref.generation.adopt import load_config
from vidpref.runs import memory
from vidpref.runs.graph import Stage, run_stage, state_of
from vidpref.runs.memory import OutOfMemory

# as XLA says it
SAID = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 105204205144 bytes."


def failing(name, error):
    def body(folder):
        raise error

    return Stage(name, body, {})


def test_an_allocation_that_failed_names_stage_size_and_fields(tmp_path):
    stage = failing("latents", jax.errors.JaxRuntimeError(SAID))
    with pytest.raises(OutOfMemory, match=r"stage latents asked for 98.0 GiB.*data.encode_batch"):
        run_stage(stage, tmp_path, lambda line: None)
    assert state_of(stage, tmp_path) == "begun"
    with pytest.raises(OutOfMemory, match=r"align-dpo-round1.*the host has.*train.accumulate"):
        run_stage(failing("align-dpo-round1", MemoryError()), tmp_path, lambda line: None)


def test_other_errors_of_a_device_stay_what_they_are(tmp_path):
    stage = failing("text", jax.errors.JaxRuntimeError("INTERNAL: broken"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        run_stage(stage, tmp_path, lambda line: None)


def test_the_fields_that_are_named_exist():
    words = " ".join(word for said in memory._SMALLER.values() for word in said).split()
    fields = [word.removeprefix("config.").partition("=")[0] for word in words if "." in word]
    assert len(fields) > 8
    for field in fields:
        assert field.replace("NETWORK", "wan") in FIELDS, field


@pytest.mark.parametrize("spec", ["flow_dpo:wan2_1_1_3b", "ipo_kto:cogvideox_2b"])
def test_a_card_lays_a_scale_out_for_one_device(spec):
    for card in ("24gb", "80gb"):
        config = load_config(f"{spec}@{card}")
        assert config.scale == f"{spec.partition(':')[2]}@{card}"
        assert config.mesh.fsdp == config.mesh.context == 1
        train = config.align.train
        assert train.batch_size % train.accumulate == 0
        assert lookup(config, "align.lora.rank") == 64
    smaller = load_config(f"{spec}@24gb").align.train.accumulate
    assert smaller > load_config(f"{spec}@80gb").align.train.accumulate


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flow_dpo:wan2_1_1_3b@25gb", "did you mean 32gb or 24gb"),
        ("flow_dpo:wan2_1_14b@48gb", "not for such a card. There are wan2_1_1_3b@16gb"),
        ("dpo_aif:paper@24gb", "not for such a card"),
    ],
)
def test_cards_that_are_none_or_too_small_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        load_config(spec)


def test_small_cards_keep_activations_on_the_host():
    small, large = (load_config(f"flow_dpo:wan2_1_1_3b@{card}") for card in ("16gb", "80gb"))
    assert (small.model.wan.remat, large.model.wan.remat) == ("offload", "full")
    assert load_config("ipo_kto:cogvideox_5b@32gb").model.cogvideox.remat == "offload"
    assert {c.align.lora.base for c in (small, large)} == {"compute"}
