"""LoRA files as the world has them: merged, they are the bits that diffusers and PEFT make."""

import copy
import json
import math

import flax.linen as nn
import jax
import ml_dtypes
import numpy as np
import peft
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.interop.pipeline_pairs import MAKERS, make_pair
from vidpref.interop.lora.reading import read_lora
from vidpref.interop.lora.scales import scales
from vidpref.interop.table import to_tensors
from vidpref.models.lora import LoRA, merge_into

ORIGINAL = {  # of Wan, in the authors' names
    **{f"{a}.{p}": f"{b}.{q}" for a, b in (("self_attn", "attn1"), ("cross_attn", "attn2"))
       for p, q in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))},
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}  # fmt: skip
OF_IMAGE = {"cross_attn.k_img": "attn2.add_k_proj", "cross_attn.v_img": "attn2.add_v_proj"}
OUTSIDE = {
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "head.head": "proj_out",
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = make_pair(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


class Draw:
    """Random tensors for the layers of a transformer of diffusers."""

    def __init__(self, pair, dtype=np.float32):
        self.weights = {
            name.removesuffix(".weight"): tuple(tensor.shape)
            for name, tensor in pair.pipe.transformer.state_dict().items()
            if name.endswith(".weight")
        }
        self.rng, self.dtype = np.random.default_rng(3), dtype

    def __call__(self, *shape):
        return self.rng.normal(size=shape).astype(np.float32).astype(self.dtype)

    def factors(self, layer, rank):
        out, inner = self.weights[layer]
        return self(rank, inner), self(out, rank)


def read(pair, path, scale=1.0):
    if not hasattr(pair, "cached"):
        pair.cached = pair.shapes()
    return read_lora(path, pair.folder.family, pair.module, pair.cached, scale)


def base_of(pair):
    """The parameters on the host, flat."""
    if not hasattr(pair, "base"):
        pair.base = flatten_dict(jax.device_get(pair.load()))
    return dict(pair.base)


def ours(pair, path, scale=1.0):
    """The state dict of diffusers with the file merged, summed as PyTorch sums.

    XLA sums the ranks in another order for some shapes, which is why this is not `merge_into`.
    """
    adapters, spec = read(pair, path, scale)
    flat, parts = base_of(pair), flatten_dict(adapters)
    for layer in {path[:-1] for path in parts}:
        a, b = (torch.from_numpy(parts[*layer, part]).mT for part in "ab")
        kernel = torch.tensor(flat[*layer, "kernel"]).mT
        flat[*layer, "kernel"] = (kernel + (b @ a) * spec.scale).mT.numpy()
        if (*layer, "bias") in parts:
            bias = torch.from_numpy(parts[*layer, "bias"]) * spec.scale
            flat[*layer, "bias"] = (torch.tensor(flat[*layer, "bias"]) + bias).numpy()
    return to_tensors(unflatten_dict(flat), pair.folder.family.transformer_table(pair.module))


def theirs(pair, path, scale=1.0):
    """What `load_lora_weights` and `fuse_lora` make of the same file."""
    pipe = pair.pipe
    before = copy.deepcopy(pipe.transformer.state_dict())
    try:
        pipe.load_lora_weights(path)
        pipe.fuse_lora(lora_scale=scale)
        pipe.unload_lora_weights()
        merged = {name: x.numpy().copy() for name, x in pipe.transformer.state_dict().items()}
    finally:
        pipe.unload_lora_weights()
        pipe.transformer.load_state_dict(before)
    changed = sum(np.any(merged[name] != x.numpy()) for name, x in before.items())
    assert changed, "diffusers read nothing of the file"
    return merged


def assert_merged(found, wanted, *, exact=True):
    assert found.keys() <= wanted.keys()  # there are buffers of positions too
    for name, tensor in found.items():
        if not name.endswith(("weight", "bias")):
            continue
        if exact:
            np.testing.assert_array_equal(tensor, wanted[name], err_msg=name)
        np.testing.assert_allclose(tensor, wanted[name], rtol=1e-6, atol=2e-6, err_msg=name)


def write(tmp_path, tensors, metadata=None, name="some.safetensors"):
    path = tmp_path / name
    safetensors.numpy.save_file(tensors, path, metadata)
    return path


def wan_original(pair, draw, *, down, up, blocks=(0, 1), alpha=None, image=False, outside=False):
    tensors = {}
    layers = {
        f"blocks.{i}.{a}": f"blocks.{i}.{b}"
        for i in blocks
        for a, b in {**ORIGINAL, **(OF_IMAGE if image else {})}.items()
    }
    for number, (name, layer) in enumerate({**layers, **(OUTSIDE if outside else {})}.items()):
        rank = 1 + number % 4  # ranks differ by module
        a, b = draw.factors(layer, rank)
        tensors |= {f"diffusion_model.{name}.{down}.weight": a}
        tensors |= {f"diffusion_model.{name}.{up}.weight": b}
        if alpha is not None and layer.startswith("blocks"):
            tensors[f"diffusion_model.{name}.alpha"] = np.array(alpha, np.float32)
    return tensors


@pytest.mark.parametrize(
    ("kind", "scale", "fields"),
    [
        ("wan", 1.0, {"down": "lora_A", "up": "lora_B", "outside": True}),
        ("wan", 0.7, {"down": "lora_down", "up": "lora_up", "blocks": (1,), "alpha": 1.3}),
        ("wan_i2v", 0.7, {"down": "lora_down", "up": "lora_up", "image": True, "alpha": 5.0}),
        ("wan_i2v", 1.0, {"down": "lora_A", "up": "lora_B"}),  # of text to video
    ],
)
def test_names_of_the_original_wan(pairs, tmp_path, kind, scale, fields):
    pair = pairs(kind)
    path = write(tmp_path, wan_original(pair, Draw(pair), **fields))
    assert_merged(ours(pair, path, scale), theirs(pair, path, scale))


@pytest.mark.parametrize("kind", ["wan", "wan_i2v"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_names_of_kohya_and_musubi(pairs, tmp_path, kind, dtype):
    """Of every block and layer, as diffusers wants them; alpha / rank is no power of two."""
    pair = pairs(kind)
    made = wan_original(
        pair, Draw(pair, dtype), down="lora_down", up="lora_up", image=kind == "wan_i2v", alpha=1.3
    )
    tensors = {}
    for name, tensor in made.items():
        layer, _, rest = name.removeprefix("diffusion_model.").rpartition(
            ".alpha" if name.endswith("alpha") else ".lora_"
        )
        part = ".alpha" if name.endswith("alpha") else f".lora_{rest}"
        tensors["lora_unet_" + layer.replace(".", "_") + part] = tensor.astype(dtype)
    path = write(tmp_path, tensors)
    assert_merged(ours(pair, path), theirs(pair, path))


def test_biases_and_differences_count_as_in_diffusers(pairs, tmp_path):
    """As in distilled models of Wan: diff_b of layers, diff of the head, and norms."""
    pair = pairs("wan")
    draw = Draw(pair)
    tensors = wan_original(pair, draw, down="lora_down", up="lora_up")
    out, inner = draw.weights["proj_out"]
    norm = draw.weights["blocks.0.attn1.norm_q"]
    tensors |= {
        "diffusion_model.blocks.0.self_attn.q.diff_b": draw(24),
        "diffusion_model.blocks.1.ffn.0.diff_b": draw(40),
        "diffusion_model.blocks.0.self_attn.norm_q.diff": draw(*norm),
        "diffusion_model.blocks.0.norm3.diff_b": draw(24),
        "diffusion_model.time_projection.1.diff_b": draw(144),
        "diffusion_model.head.head.diff": draw(out, inner),
        "diffusion_model.head.head.diff_b": draw(out),
        "diffusion_model.patch_embedding.diff_b": draw(24),
    }
    path = write(tmp_path, tensors)
    assert_merged(ours(pair, path), theirs(pair, path))


CONFIGS = [
    {"r": 4, "lora_alpha": 2},
    {"r": 4, "lora_alpha": 6, "rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_q": 3}},
    {"r": 4, "lora_alpha": 4, "alpha_pattern": {"^transformer_blocks.1.attn1.to_v": 8}},
    {"r": 4, "lora_alpha": 3, "use_rslora": True, "rank_pattern": {"to_k": 3}},
    {"r": 2, "lora_alpha": 2, "lora_bias": True},
    {"r": 4},  # alpha is 8
]


def cogvideox_lora(pair, config):
    """Tensors in the names of diffusers for a config: the layers of attention of both blocks."""
    draw, ranks = Draw(pair), config.get("rank_pattern", {})
    tensors = {}
    for block in range(2):
        for layer in ("to_q", "to_k", "to_v", "to_out.0"):
            name = f"transformer_blocks.{block}.attn1.{layer}"
            a, b = draw.factors(name, ranks.get(layer, config["r"]))
            tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
            if config.get("lora_bias"):
                tensors[f"{name}.lora_B.bias"] = draw(len(b))
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    return tensors, {**config, "target_modules": targets, "peft_type": "LORA"}


def is_exact(config):
    """Whether every scale is one number, or a power of two: folding it rounds nothing."""
    return "use_rslora" not in config and config.get("lora_alpha") != 6


@pytest.mark.parametrize("config", CONFIGS)
def test_ranks_and_strengths_by_module(pairs, tmp_path, config):
    pair = pairs("cogvideox")
    tensors, config = cogvideox_lora(pair, config)
    del config["peft_type"]
    metadata = {f"transformer.{field}": value for field, value in config.items()}
    path = write(
        tmp_path,
        {f"transformer.{name}": x for name, x in tensors.items()},
        {"lora_adapter_metadata": json.dumps(metadata)},
    )
    assert_merged(ours(pair, path), theirs(pair, path), exact=is_exact(config))


@pytest.mark.parametrize("config", CONFIGS)
def test_folders_of_peft(pairs, tmp_path, config):
    pair = pairs("cogvideox")
    tensors, config = cogvideox_lora(pair, config)
    write(
        tmp_path,
        {f"base_model.model.{name}": x for name, x in tensors.items()},
        name="adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    model = peft.PeftModel.from_pretrained(copy.deepcopy(pair.pipe.transformer), tmp_path)
    wanted = {n: x.numpy() for n, x in model.merge_and_unload().state_dict().items()}
    assert_merged(ours(pair, tmp_path), wanted, exact=is_exact(config))


@pytest.mark.parametrize("kind", MAKERS)
def test_names_of_diffusers_without_metadata(pairs, tmp_path, kind):
    """Of every linear layer, with ranks that differ; those of Wan in the names before PEFT."""
    pair = pairs(kind)
    draw, tensors = Draw(pair), {}
    down, up = ("lora.down", "lora.up") if kind.startswith("wan") else ("lora_A", "lora_B")
    for number, (layer, shape) in enumerate(draw.weights.items()):
        if len(shape) == 2:
            a, b = draw.factors(layer, 1 + number % 4)
            name = f"transformer.{layer}"
            tensors |= {f"{name}.{down}.weight": a, f"{name}.{up}.weight": b}
    path = write(tmp_path, tensors)
    assert_merged(ours(pair, path), theirs(pair, path))


@pytest.mark.parametrize(
    "rename",
    [
        lambda n: n,  # DiffSynth and files without a prefix
        lambda n: f"transformer.{n}",
        lambda n: f"base_model.model.{n}",
        lambda n: n.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."),
        lambda n: n.replace(".lora_A.", ".lora_A.my-own.").replace(".lora_B.", ".lora_B.my-own."),
        lambda n: "lora_unet__" + n.split(".lora_")[0].replace(".", "_") + ".lora_"
        + ("down" if "lora_A" in n else "up") + ".weight",
        lambda n: "transformer." + n.split(".lora_")[0].replace(".to_", ".processor.to_")
        .replace(".0.proj", ".0.proj").replace("to_out.0", "to_out") + "_lora."
        + ("down" if "lora_A" in n else "up") + ".weight",
    ],
)  # fmt: skip
def test_other_spellings_are_the_same_file(pairs, tmp_path, rename):
    pair = pairs("wan")
    draw, tensors = Draw(pair), {}
    for layer in ("blocks.0.attn1.to_q", "blocks.1.attn2.to_out.0"):
        a, b = draw.factors(layer, 2)
        tensors |= {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}
    plain = write(tmp_path, {f"transformer.{n}": x for n, x in tensors.items()}, name="a.sft")
    other = write(tmp_path, {rename(n): x for n, x in tensors.items()}, name="b.sft")
    (found, spec), (wanted, other_spec) = read(pair, other), read(pair, plain)
    assert spec == other_spec
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_training_goes_on_from_what_was_read(pairs, tmp_path):
    """Ranks that the file lacks have no gradient: they stay as they are."""
    pair = pairs("wan")
    path = write(tmp_path, wan_original(pair, Draw(pair), down="lora_A", up="lora_B", blocks=(1,)))
    adapters, spec = read(pair, path)
    a = flatten_dict(adapters)["blocks", "self", "query", "a"]
    assert a.shape == (2, 24, 4)
    assert not a[0].any()
    assert a[1, :, :1].all()
    assert not a[1, :, 1:].any()
    assert spec.scale == 1.0
    layers = {path[:-1] for path in flatten_dict(adapters)}
    kernels = {path[:-1] for path in flatten_dict(nn.unbox(pair.shapes())) if path[-1] == "kernel"}
    assert layers <= kernels
    chosen = spec._kernels(pair.shapes())
    assert {path[:-1] for path in chosen} == layers


def test_merged_on_devices(pairs, tmp_path):
    """In all, with biases, on eight devices: a few roundings beside what diffusers makes."""
    pair = pairs("wan")
    tensors = wan_original(pair, Draw(pair), down="lora_A", up="lora_B", outside=True)
    tensors["diffusion_model.blocks.0.self_attn.q.diff_b"] = np.ones(24, np.float32)
    path = write(tmp_path, tensors)
    adapters, spec = read(pair, path, 0.7)
    merged = merge_into(pair.load(), adapters, spec)
    table = pair.folder.family.transformer_table(pair.module)
    assert_merged(to_tensors(merged, table), theirs(pair, path, 0.7), exact=False)


START = "diffusion_model"
BLOCK = f"{START}.blocks.0"
FIRST = f"{BLOCK}.self_attn.q"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t | {f"{FIRST}.dora_scale": np.ones((24, 1))}, r"DoRA: .*self_attn\.q"),
        (lambda t: t | {f"{FIRST}.lora_magnitude_vector": np.ones(24)}, "DoRA: "),
        (lambda t: t | {f"{FIRST}.hada_w1_a": np.ones((24, 2))}, "LoHa: .*hada_w1_a"),
        (lambda t: t | {f"{FIRST}.lokr_w1": np.ones((2, 2))}, "LoKr: .*lokr_w1"),
        (lambda t: t | {f"{FIRST}.lora_mid.weight": np.ones((2, 2, 1, 1))}, "Tucker"),
        (lambda t: t | {f"{FIRST}.oft_blocks": np.ones((2, 2, 2))}, "OFT"),
        (lambda t: t | {"text_encoder.a.lora_A.weight": np.ones((2, 2))}, "the text encoder"),
        (lambda t: t | {"transformer_2.a.lora_A.weight": np.ones((2, 2))}, r"Wan2\.2"),
        (
            lambda t: t | {"diffusion_model.blocks.9.ffn.0.lora_A.weight": np.ones((2, 24))},
            r"does not have: .*blocks\.9",
        ),
        (
            lambda t: t | {f"{BLOCK}.cross_attn.k_img.lora_A.weight": np.ones((2, 24))},
            "does not have: .*k_img",
        ),
        (
            lambda t: t | {f"{START}.patch_embedding.lora_A.weight": np.ones((2, 4, 1, 2, 2))},
            "patch_embedding is a convolution",
        ),
        (lambda t: t | {f"{FIRST}.weight": np.ones((24, 24))}, "no known kind of tensor"),
        (
            lambda t: {n: x for n, x in t.items() if n != f"{FIRST}.lora_B.weight"},
            r"to_q: its lora_B \(up\) is missing",
        ),
        (
            lambda t: t | {f"{FIRST}.lora_A.weight": np.ones((1, 23), np.float32)},
            r"to_q: its factors are \(1, 23\) and \(24, 1\), wanted \(rank, 24\)",
        ),
        (
            lambda t: t | {f"{FIRST}.lora_A.weight": np.full((1, 24), np.nan, np.float32)},
            r"to_q: .*self_attn\.q\.lora_A\.weight has values that are not finite",
        ),
        (lambda t: t | {f"{FIRST}.boft_R": np.ones((2, 2, 2))}, "BOFT"),
        (
            lambda t: t | {"diffusion_model.head.head.diff": np.ones((16, 24), np.float32),
                           "diffusion_model.head.head.lora_A.weight": np.ones((2, 24))},
            r"proj_out: it has a whole difference and parts of an adapter",
        ),
        (
            lambda t: t | {f"{FIRST}.lora_A.weight": np.full((1, 24), 9, np.float16),
                           f"{FIRST}.alpha": np.array(6e4, np.float32)},
            r"to_q: its values are beyond its type",
        ),
        (lambda t: {"a": np.ones(2)}, "no known kind of tensor: a"),
        (lambda t: {f"{FIRST}.lora_A.weight": np.ones((2, 24), np.int8)}, "I8: only F64"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_by_name(pairs, tmp_path, change, complaint):
    pair = pairs("wan")
    good = wan_original(pair, Draw(pair), down="lora_A", up="lora_B")
    path = write(tmp_path, change(good))
    with pytest.raises(ValueError, match=complaint) as error:
        read(pair, path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"r": 2, "use_dora": True}, "'use_dora': True"),
        ({"r": 2, "init_lora_weights": "pissa"}, "pissa"),
        ({"r": 2, "peft_type": "LOHA"}, "LOHA"),
        ({"r": 2, "lora_alpha": "8"}, "lora_alpha='8', wanted a number"),
        ({"r": 2, "rank_pattern": {"(": 2}}, r"'\(' in rank_pattern, which is no regular"),
        ({"r": 2, "use_rslora": "no"}, "use_rslora='no', wanted true or false"),
        ({"lora_alpha": 2}, r"r=8 for transformer_blocks\.0\.attn1\.to_q, .* rank 2"),
        ({"r": 2, "alpha_pattern": [1]}, r"alpha_pattern=\[1\], wanted"),
        ({"r": 3, "lora_alpha": 3}, r"r=3 for transformer_blocks\.0\.attn1\.to_q, .* rank 2"),
    ],
)
def test_configs_of_another_computation_are_refused(pairs, tmp_path, config, complaint):
    pair = pairs("cogvideox")
    tensors, _ = cogvideox_lora(pair, {"r": 2})
    write(tmp_path, tensors, name="adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=complaint):
        read(pair, tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1]", "holds no fields of a LoraConfig"),
        ("null", "holds no fields of a LoraConfig"),
        ('{"transformer.r": ', "line 1: not JSON"),
        ('{"transformer.r": 2, "transformer.r": 3}', "stands twice in one object"),
        ('{"transformer.lora_alpha": NaN}', "NaN is not a finite number"),
    ],
)
def test_metadata_that_is_no_config_is_refused(pairs, tmp_path, text, complaint):
    pair = pairs("cogvideox")
    tensors, _ = cogvideox_lora(pair, {"r": 2})
    path = write(tmp_path, tensors, {"lora_adapter_metadata": text})
    with pytest.raises(ValueError, match=complaint) as error:
        read(pair, path)
    assert str(error.value).startswith(str(path))


def test_fields_of_a_text_encoder_are_not_the_transformers(pairs, tmp_path):
    pair = pairs("cogvideox")
    tensors, _ = cogvideox_lora(pair, {"r": 2})
    config = {"transformer.r": 2, "transformer.lora_alpha": 6, "text_encoder.r": 4}
    path = write(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(config)})
    assert read(pair, path)[1].scale == 3.0
    others = {"text_encoder.r": 4, "text_encoder.lora_alpha": 6}
    path = write(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(others)})
    assert read(pair, path)[1].scale == 1.0


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_is_finite(pairs, tmp_path, scale):
    pair = pairs("wan")
    path = write(tmp_path, wan_original(pair, Draw(pair), down="lora_A", up="lora_B"))
    with pytest.raises(ValueError, match=f"cannot count {scale} times"):
        read(pair, path, float(scale))


@pytest.mark.slow
def test_any_damage_is_read_or_refused_in_words(pairs, tmp_path):
    """A seeded fuzz of names, shapes, types and fields: never another error than ValueError."""
    pair, rng, refused = pairs("wan"), np.random.default_rng(0), []
    good = wan_original(pair, Draw(pair), down="lora_down", up="lora_up", alpha=2.0)
    words = ["lora_A", "alpha", "0", "lokr_w1", "diff", "diff_b", "weight", "to_q", "é", "(", "{i}"]
    fields = ["r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "peft_type"]
    values = [None, 0, -1, 2, 1.5, 1e400, "q", True, [], [1], {}, {"q": 3}, {"(": 1}, {"q": None}]

    def one_of(choices):
        return choices[rng.integers(len(choices))]

    for _ in range(400):
        tensors = dict(good)
        for name in rng.choice(list(good), rng.integers(1, 4), replace=False):
            tensor = tensors.pop(name)
            parts = name.split(".")
            parts[rng.integers(len(parts))] = one_of(words)
            shaped = [tensor, tensor.reshape(-1), tensor[None], np.float16(tensor)]
            other = shaped if tensor.ndim else [np.full(n, np.nan, np.float32) for n in range(3)]
            tensors[one_of([name, ".".join(parts)])] = np.ascontiguousarray(one_of(other))
        metadata = {"lora_adapter_metadata": json.dumps({one_of(fields): one_of(values)})}
        path = write(tmp_path, tensors, one_of([None, metadata]))
        try:
            adapters, _ = read(pair, path)
        except ValueError as error:
            refused.append(str(error))
        else:
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(adapters))
    assert 100 < len(refused) < 400
    assert all(message.startswith(str(path)) for message in refused)


def test_a_bias_needs_a_layer_with_one(pairs, tmp_path):
    pair = pairs("cogvideox")
    tensors, _ = cogvideox_lora(pair, {"r": 2, "lora_bias": True})
    shapes = flatten_dict(nn.unbox(pair.shapes()))
    del shapes["blocks", "query", "bias"]
    path = write(tmp_path, tensors)
    with pytest.raises(ValueError, match="to_q has no bias that"):
        read_lora(path, pair.folder.family, pair.module, unflatten_dict(shapes))


def test_scales_of_any_sign(pairs, tmp_path):
    """0 leaves the base, -1 takes away what 1 adds."""
    pair = pairs("wan")
    path = write(tmp_path, wan_original(pair, Draw(pair), down="lora_A", up="lora_B"))
    table = pair.folder.family.transformer_table(pair.module)
    base = to_tensors(unflatten_dict(base_of(pair)), table)
    assert_merged(ours(pair, path, 0.0), base)
    assert_merged(ours(pair, path, -0.3), theirs(pair, path, -0.3))


def test_a_folder_has_one_file_or_says_which_to_name(pairs, tmp_path):
    pair = pairs("wan")
    tensors = wan_original(pair, Draw(pair), down="lora_A", up="lora_B")
    with pytest.raises(ValueError, match="no such file or folder"):
        read(pair, tmp_path / "none")
    with pytest.raises(ValueError, match="no safetensors file; it is empty"):
        read(pair, tmp_path)
    (tmp_path / "adapter.pt").write_bytes(b"")
    for path in (tmp_path, tmp_path / "adapter.pt"):
        with pytest.raises(ValueError, match=r"as pickle \(adapter.pt\)"):
            read(pair, path)
    (tmp_path / "step-100").mkdir()
    write(tmp_path / "step-100", tensors, name="w.safetensors")
    with pytest.raises(ValueError, match=r"its folders have: step-100.*Name the one"):
        read(pair, tmp_path)
    write(tmp_path, tensors, name="style.safetensors")
    _, spec = read(pair, tmp_path)
    assert spec.rank == 4
    write(tmp_path, tensors, name="optimizer.safetensors")
    read(pair, tmp_path)  # no LoRA by its name, as in diffusers
    write(tmp_path, tensors, name="other.safetensors")
    with pytest.raises(ValueError, match=r"several .*: other\.safetensors, style\.safetensors"):
        read(pair, tmp_path)
    (tmp_path / "style.safetensors").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"style\.safetensors.*(damaged|cut short)"):
        read(pair, tmp_path / "style.safetensors")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 17\n"
    (tmp_path / "style.safetensors").write_text(pointer)
    with pytest.raises(ValueError, match="a pointer of git-lfs"):
        read(pair, tmp_path / "style.safetensors")
    with pytest.raises(ValueError, match="whole pipeline"):
        read(pair, pair.folder.path)


def test_rank_stabilised_scale_is_of_the_root():
    config = {"r": 9, "lora_alpha": 6, "use_rslora": True, "rank_pattern": {"q": 4}}
    found = scales(config, {"a.q": 4, "a.k": 9}, {"a.q": "a.q", "a.k": "a.k"})
    assert found == {"a.q": 6 / math.sqrt(4), "a.k": 6 / 3}
    assert LoRA(9, 18.0, ("x",)).scale == 2.0
