"""Exported pipelines: diffusers loads them and computes what we compute."""

from pathlib import Path

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.pipeline_pairs import MAKERS, make_pair
from tests.models.torch_parity import relative_error
from tests.two_processes import run_two
from vidpref.interop.export import export_pipeline
from vidpref.interop.pipelines import TRANSFORMER, PipelineFolder
from vidpref.interop.safetensors_files import TensorFolder

TOLERANCE = 1e-4


@pytest.fixture(params=MAKERS)
def pair(request, tmp_path):
    return make_pair(request.param, tmp_path / "source")


@pytest.fixture
def wan(tmp_path):
    return make_pair("wan", tmp_path / "source")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != TRANSFORMER
    }


def changed(params):
    """Other weights, as after a training."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: jax.device_put(x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), x.sharding),
        params,
    )


def test_diffusers_computes_what_we_compute(pair, tmp_path):
    params = changed(pair.load())
    out = tmp_path / "new" / "out"
    export_pipeline(out, pair.folder, pair.module, params)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
    assert files(out) == files(pair.folder.path)

    pipe = type(pair.pipe).from_pretrained(out)
    theirs = pair.theirs(pipe.transformer)
    # compiling is nearly all of the time
    run = jax.jit(pair.module.apply, compiler_options={"xla_backend_optimization_level": 0})
    ours = run({"params": params}, *pair.inputs)
    error = relative_error(ours, theirs)
    print(f"\n{pair.folder.pipeline}: {error:.1e}")
    assert error < TOLERANCE
    assert relative_error(pair.theirs(pair.pipe.transformer), theirs) > 0.05

    pair.folder = PipelineFolder(out)
    for leaf, wanted in zip(*map(jax.tree.leaves, (pair.load(), params)), strict=True):
        np.testing.assert_array_equal(leaf, wanted, strict=True)


def test_shards_and_bfloat16(wan, tmp_path):
    out = tmp_path / "out"
    params = wan.load()
    options = {"dtype": "bfloat16", "max_shard_bytes": 10_000}
    export_pipeline(out, wan.folder, wan.module, params, **options)
    names = sorted(path.name for path in (out / TRANSFORMER).iterdir())
    assert names[0] == "config.json"
    assert names[1].startswith("diffusion_pytorch_model-00001-of-0000")
    assert names[-1] == "diffusion_pytorch_model.safetensors.index.json"
    tensors = TensorFolder(out / TRANSFORMER)
    for name, tensor in wan.pipe.transformer.state_dict().items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy().astype(jnp.bfloat16))
    loaded = diffusers.WanTransformer3DModel.from_pretrained(out, subfolder=TRANSFORMER)
    assert relative_error(wan.theirs(loaded), wan.theirs(wan.pipe.transformer)) < 0.02


def test_links_are_followed_and_pickles_left_out(wan, tmp_path, caplog):
    source = wan.folder.path
    (source / "vae").rename(tmp_path / "vae")
    (source / "vae").symlink_to(tmp_path / "vae")
    (source / "vae" / "old.bin").write_bytes(b"")
    (source / TRANSFORMER / "pytorch_model.bin.index.json").write_text("{}")
    (source / TRANSFORMER / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    (source / "assets" / "nested").mkdir(parents=True)
    (source / "assets" / "nested" / "example.mp4").write_bytes(b"clip")
    (source / ".cache").mkdir()
    (source / ".cache" / "lock").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    # arrays on the host will do
    with caplog.at_level("WARNING"):
        export_pipeline(out, wan.folder, wan.module, jax.tree.map(np.asarray, wan.load()))
    assert "vae/old.bin" in caplog.text
    assert "transformer/pytorch_model.bin.index.json" in caplog.text
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert not (out / ".cache").exists()
    assert (out / "assets" / "nested" / "example.mp4").read_bytes() == b"clip"
    names = {str(path.relative_to(out)) for path in out.rglob("*")}
    assert {name for name in names if name.startswith(("vae/", "transformer/"))} == {
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
    }


def test_refuses(wan, tmp_path):
    params = wan.load()
    with pytest.raises(ValueError, match="source exists and is not an empty folder"):
        export_pipeline(wan.folder.path, wan.folder, wan.module, params)
    with pytest.raises(ValueError, match="exported as float32 or bfloat16"):
        export_pipeline(tmp_path / "out", wan.folder, wan.module, params, dtype="float16")
    wrong = {**params, "head": {**params["head"], "bias": jnp.zeros(3)}}
    with pytest.raises(ValueError, match=r"not those of .*transformer[^$]*proj_out\.bias"):
        export_pipeline(tmp_path / "out", wan.folder, wan.module, wrong)
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_a_failure(wan, tmp_path):
    params = jax.tree.map(np.asarray, wan.load())
    (wan.folder.path / "lost.txt").symlink_to(tmp_path / "nowhere")  # copied after the weights
    with pytest.raises(FileNotFoundError):
        export_pipeline(tmp_path / "out", wan.folder, wan.module, params)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_two_processes_write_one_pipeline(wan, tmp_path):
    worker = "tests/interop/export_in_two_processes.py"
    run_two(worker, wan.folder.path, tmp_path / "out")
    assert files(tmp_path / "out") == files(wan.folder.path)
    ours, theirs = TensorFolder(tmp_path / "out" / TRANSFORMER), wan.pipe.transformer.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor.numpy(), strict=True)
