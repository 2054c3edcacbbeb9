"""Loading onto a mesh equals `to_params`, and the host never holds the model twice."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.interop import load_and_measure
from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import Rule, to_params

TABLE = (
    Rule("stem.weight", "stem/kernel", "conv"),
    Rule("h.{i}.up.weight", "blocks/up", "linear"),
    Rule("gain", "gain", "kept"),
)
SPECS = {
    "stem": {"kernel": PartitionSpec(None, None, "fsdp", None)},
    "blocks": {"up": PartitionSpec(None, "fsdp", "tensor")},
    "gain": PartitionSpec(),
}


def state_dict() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"stem.weight": (6, 8, 2, 3), "gain": ()}
    shapes |= {f"h.{i}.up.weight": (6, 8) for i in range(3)}
    return {n: rng.normal(size=s).astype(ml_dtypes.bfloat16) for n, s in shapes.items()}


def target(params, dtype):
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("data", "fsdp", "tensor"))
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype, sharding=NamedSharding(mesh, s)),
        params,
        SPECS,
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("max_shard_bytes", [10**9, 100])
def test_loads_what_to_params_gives(tmp_path, dtype, max_shard_bytes):
    write_tensors(tmp_path, state_dict(), max_shard_bytes=max_shard_bytes)
    wanted = to_params(state_dict(), TABLE)
    loaded = load_onto(target(wanted, dtype), tmp_path, TABLE)
    for leaf, want, spec in zip(*map(jax.tree.leaves, (loaded, wanted, SPECS)), strict=True):
        assert (leaf.dtype, leaf.sharding.spec) == (dtype, spec)
        np.testing.assert_array_equal(np.asarray(leaf), want.astype(dtype), strict=True)


def test_parameters_are_kept_in_another_form_one_by_one(tmp_path):
    write_tensors(tmp_path, state_dict())
    wanted, seen = to_params(state_dict(), TABLE), []

    def keep(path, array):
        seen.append("/".join(path))
        return {"doubled": 2 * array} if path == ("blocks", "up") else array

    loaded = load_onto(target(wanted, jnp.float32), tmp_path, TABLE, keep=keep)
    assert sorted(seen) == ["blocks/up", "gain", "stem/kernel"]
    doubled = np.asarray(loaded["blocks"]["up"]["doubled"])
    np.testing.assert_array_equal(doubled, 2 * wanted["blocks"]["up"].astype(np.float32))
    np.testing.assert_array_equal(np.asarray(loaded["gain"]), wanted["gain"].astype(np.float32))


def test_the_folder_is_named_in_the_error(tmp_path):
    tensors = state_dict()
    wanted = target(to_params(tensors, TABLE), jnp.float32)
    tensors["h.3.up.weight"] = tensors.pop("h.2.up.weight")
    write_tensors(tmp_path, tensors)
    with pytest.raises(ValueError, match=rf"{tmp_path}: [^$]*missing .*h\.2[^$]*extra .*h\.3"):
        load_onto(wanted, tmp_path, TABLE)


def test_the_host_holds_one_copy(tmp_path):
    """96 MB, six parameters of four blocks: two copies would be 192 MB."""
    blocks, width = load_and_measure.BLOCKS, load_and_measure.WIDTH
    rng = np.random.default_rng(0)
    names = [rule.torch.format(i=i) for rule in load_and_measure.TABLE for i in range(blocks)]
    tensors = {name: rng.random((width, width), np.float32) for name in names}
    model = sum(tensor.nbytes for tensor in tensors.values())
    write_tensors(tmp_path, tensors, stem="model", max_shard_bytes=model // 3)
    flags = "--xla_force_host_platform_device_count=8"
    measured = subprocess.run(
        [sys.executable, load_and_measure.__file__, str(tmp_path)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, held = map(int, measured.stdout.split())
    assert held == model
    parameter = model // len(load_and_measure.TABLE)
    assert grown < model + 2 * parameter, f"grew by {grown / 1e6:.0f} MB"


def test_a_config_is_read_or_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        component_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json, line 1: not JSON"):
        component_config(tmp_path)
    (tmp_path / "config.json").write_text('{"d_model": 8}')
    assert component_config(tmp_path) == {"d_model": 8}
