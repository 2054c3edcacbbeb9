"""T5 and UMT5 against transformers with small random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention

from vidpref.interop.loading import component_config, load_onto
from vidpref.interop.t5 import NOT_OF_THE_ENCODER, t5_table
from vidpref.interop.table import plan, to_params, to_tensors
from vidpref.models.t5 import T5Encoder, distance_buckets, from_config

ORIGINALS = {
    "t5": (transformers.T5Config, transformers.T5EncoderModel),
    "umt5": (transformers.UMT5Config, transformers.UMT5EncoderModel),
}
# heads times d_kv is not d_model, and the sequences are longer than the largest distance
SMALL = {
    "vocab_size": 50,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 17,
    "feed_forward_proj": "gated-gelu",
}


def original(kind: str, **fields) -> torch.nn.Module:
    config, model = ORIGINALS[kind]
    torch.manual_seed(0)
    module = model(config(**{**SMALL, **fields})).eval()
    with torch.no_grad():
        for parameter in module.parameters():  # the norms would all be one
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return module


def tensors_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def inputs(lengths: list[int], l: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(1).integers(0, SMALL["vocab_size"], (len(lengths), l))
    return tokens.astype(np.int32), np.arange(l)[None] < np.array(lengths)[:, None]


def relative_error(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("kind", ORIGINALS)
@pytest.mark.parametrize(("lengths", "l"), [([7, 3, 1], 7), ([9, 40], 40), (None, 5)])
def test_forward_and_gradient_are_those_of_transformers(kind, lengths, l):
    theirs = original(kind)
    encoder = from_config(theirs.config.to_dict(), remat="full")
    table = t5_table(encoder)
    params = to_params(tensors_of(theirs), table)
    tokens, mask = inputs(lengths or [l, l], l)
    mask = None if lengths is None else mask
    states = theirs(
        torch.from_numpy(tokens).long(),
        attention_mask=None if mask is None else torch.from_numpy(mask).long(),
    ).last_hidden_state
    cotangent = np.random.default_rng(2).normal(size=states.shape).astype(np.float32)
    (states * torch.from_numpy(cotangent)).sum().backward()

    def loss(params):
        ours = encoder.apply({"params": params}, tokens, mask)
        return (ours * cotangent).sum(), ours

    gradient, ours = jax.jit(jax.grad(loss, has_aux=True))(params)
    # of padding too, which CogVideoX attends to
    assert relative_error(ours, states.detach().numpy()) < 1e-4
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for name, value in to_tensors(gradient, table).items():
        assert relative_error(value, gradients.pop(name)) < 1e-4, name
    assert not gradients


@pytest.mark.parametrize("kind", ORIGINALS)
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (12, 17)])
def test_buckets_are_those_of_transformers(kind, buckets, distance):
    position = torch.arange(700)
    wanted = T5Attention._relative_position_bucket(
        position[None, :] - position[:, None], num_buckets=buckets, max_distance=distance
    )
    np.testing.assert_array_equal(distance_buckets(700, buckets, distance), wanted)


@pytest.mark.parametrize(("kind", "words"), [("t5", 32128), ("umt5", 256384)])
def test_published_sizes_have_the_parameters_of_the_originals(kind, words):
    """T5 v1.1 XXL, which Imagen and CogVideoX read, and UMT5 XXL, which Wan reads."""
    config, model = ORIGINALS[kind]
    fields = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    fields["vocab_size"] = words
    with torch.device("meta"):
        theirs = model(config(**fields, feed_forward_proj="gated-gelu"))
    shapes = {name: tuple(t.shape) for name, t in theirs.state_dict().items()}
    encoder = T5Encoder(**fields, bias_in_every_block=kind == "umt5")
    tokens = jnp.zeros((1, 8), jnp.int32)
    abstract = jax.eval_shape(encoder.init, jax.random.key(0), tokens)["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert count == sum(p.numel() for p in theirs.parameters())
    assert count == {"t5": 4_762_310_656, "umt5": 5_680_910_336}[kind]
    plan(shapes, t5_table(encoder), expected=abstract)


@pytest.mark.parametrize("kind", ORIGINALS)
def test_a_folder_written_by_transformers_is_read(tmp_path, kind):
    theirs = original(kind)
    theirs.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="20KB")
    assert list(tmp_path.glob("*.index.json"))
    encoder = from_config(component_config(tmp_path))
    wanted = to_params(tensors_of(theirs.float()), t5_table(encoder))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=device), wanted
    )
    loaded = load_onto(target, tmp_path, t5_table(encoder), ignore=NOT_OF_THE_ENCODER)
    jax.tree.map(np.testing.assert_array_equal, loaded, wanted)


def test_the_decoder_of_a_whole_model_is_left_out(tmp_path):
    torch.manual_seed(0)
    whole = transformers.T5ForConditionalGeneration(transformers.T5Config(**SMALL))
    whole.save_pretrained(tmp_path)
    encoder = from_config(component_config(tmp_path))
    theirs = tensors_of(whole)
    abstract = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        jax.tree.map(
            lambda x: x.unbox(), abstract["params"], is_leaf=lambda x: hasattr(x, "unbox")
        ),
    )
    loaded = load_onto(target, tmp_path, t5_table(encoder), ignore=NOT_OF_THE_ENCODER)
    for name, tensor in to_tensors(loaded, t5_table(encoder)).items():
        np.testing.assert_array_equal(tensor, theirs[name])


def test_bfloat16_is_as_good_as_the_originals():
    theirs = original("umt5")
    encoder = from_config(theirs.config.to_dict(), dtype="bfloat16")
    params = to_params(tensors_of(theirs), t5_table(encoder))
    tokens, mask = inputs([7, 3], 7)
    ours = encoder.apply({"params": params}, tokens, mask)
    assert ours.dtype == jnp.bfloat16
    with torch.no_grad():
        asked = torch.from_numpy(tokens).long(), torch.from_numpy(mask).long()
        exact, rounded = theirs(*asked)[0], theirs.bfloat16()(*asked)[0].float()
    their_error = relative_error(rounded.numpy(), exact.numpy())
    assert 1e-3 < relative_error(ours.astype(jnp.float32), exact.numpy()) < 1.2 * their_error


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mt5"}, "model_type='mt5'.*known are t5, umt5"),
        ({"feed_forward_proj": "relu"}, "feed_forward_proj='relu' is not implemented"),
        ({"dense_act_fn": "gelu"}, "dense_act_fn='gelu' is not implemented"),
        ({"quantization_config": {}}, "quantization_config"),
    ],
)
def test_configs_of_other_models_are_refused(fields, message):
    config = transformers.T5Config(**SMALL).to_dict()
    with pytest.raises(ValueError, match=message):
        from_config({**config, **fields})
    with pytest.raises(ValueError, match="lacks vocab_size"):
        from_config({k: v for k, v in config.items() if k != "vocab_size"})
    with pytest.raises(ValueError, match="feed_forward_proj='relu'"):
        from_config({k: v for k, v in config.items() if k != "feed_forward_proj"})
