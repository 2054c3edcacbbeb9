"""Attention against torch's scaled_dot_product_attention, forward and gradient."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vidpref.models.attention import dot_product, dot_product_attention
from vidpref.models.attention.cudnn import cudnn_attention
from vidpref.models.attention.dot_product import CHUNK
from vidpref.models.attention.splash import splash_attention
from vidpref.models.attention.target import traced_for
from vidpref.planning.chips import CARDS

torch = pytest.importorskip("torch")

TOLERANCE = 1e-5
GPU_TOLERANCE = 2e-2  # of bfloat16


def splash(q, k, v, mask, causal=False):
    scaled = q * q.shape[-1] ** -0.5
    return splash_attention(scaled, k, v, mask, causal=causal, interpret=True)


ON_CPU = {
    "xla": functools.partial(dot_product_attention, implementation="xla"),
    "chunked": functools.partial(dot_product_attention, implementation="chunked", chunk=4),
    "auto": functools.partial(dot_product_attention, implementation="auto"),
    "splash": splash,
    "cudnn": cudnn_attention,
}


@pytest.fixture(autouse=True)
def _cudnn_on_cpu(request, monkeypatch):
    """Without a GPU, JAX's own XLA attention stands in for the kernel behind `cudnn_attention`."""
    if request.node.get_closest_marker("gpu") is None:
        original = jax.nn.dot_product_attention

        def stand_in(*args, implementation, **options):
            assert implementation == "cudnn"
            return original(*args, **options, implementation="xla")

        monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)


@pytest.fixture
def qkv():
    return draw((2, 10, 3, 8), 7)


def draw(shape: tuple[int, int, int, int], m: int, dtype=np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [shape, (shape[0], m, *shape[2:]), (shape[0], m, *shape[2:])]
    return [rng.normal(size=s).astype(dtype) for s in shapes]


def with_gradients(attend, qkv, mask):
    """Returns the output and the gradients of its random projection."""
    probe = np.random.default_rng(1).normal(size=qkv[0].shape).astype(np.float32)

    @jax.jit
    def run(q, k, v):
        def loss(q, k, v):
            out = attend(q, k, v, mask)
            return (out * probe).sum(), out

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(q, k, v)

    (_, out), grads = run(*qkv)
    return out, *grads


def of_torch(qkv, mask, causal=False, probe=None):
    if probe is None:
        probe = np.random.default_rng(1).normal(size=qkv[0].shape).astype(np.float32)
    tensors = [torch.tensor(x, requires_grad=True) for x in qkv]
    heads_first = [x.transpose(1, 2) for x in tensors]
    torch_mask = None if mask is None else torch.tensor(mask)[:, None, None]
    if causal:
        torch_mask = torch.ones(qkv[0].shape[1], qkv[1].shape[1]).tril().bool() & torch_mask
    out = torch.nn.functional.scaled_dot_product_attention(*heads_first, torch_mask)
    out = out.transpose(1, 2)
    (out * torch.tensor(probe)).sum().backward()
    return out.detach().numpy(), *(x.grad.numpy() for x in tensors)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("implementation", ON_CPU)
def test_equals_torch(qkv, implementation, masked):
    mask = np.array([[1, 0, 1, 1, 0, 0, 1], [1] * 7], bool) if masked else None
    ours = with_gradients(ON_CPU[implementation], qkv, mask)
    for mine, theirs in zip(ours, of_torch(qkv, mask), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=TOLERANCE)


@pytest.mark.parametrize("implementation", ON_CPU)
def test_causal_equals_torch_and_padding_may_be_left(implementation):
    qkv = draw((2, 10, 3, 8), 10)
    mask = np.array([[0] * 3 + [1] * 7, [1] * 6 + [0] * 4], bool)
    attend = functools.partial(ON_CPU[implementation], causal=True)
    ours = with_gradients(attend, qkv, mask)
    assert all((np.asarray(x)[0, :3] == 0).all() for x in ours)
    # torch has no rule for a query that sees nothing
    for row, seen in ((0, slice(3, None)), (1, slice(None))):
        own = [x[row : row + 1, seen] for x in qkv]
        probe = np.random.default_rng(1).normal(size=qkv[0].shape).astype(np.float32)
        theirs = of_torch(own, mask[row : row + 1, seen], True, probe[row : row + 1, seen])
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine[row : row + 1, seen], other, atol=TOLERANCE)


def test_heads_of_queries_share_keys_and_values():
    q, k, v = draw((2, 10, 6, 8), 7)
    grouped = dot_product_attention(q, k[:, :, ::3], v[:, :, ::3])
    whole = dot_product_attention(q, *(np.repeat(x[:, :, ::3], 3, axis=2) for x in (k, v)))
    np.testing.assert_array_equal(grouped, whole)


@pytest.mark.parametrize("implementation", ON_CPU)
def test_row_without_visible_keys_is_zero_with_zero_gradient(qkv, implementation):
    mask = np.array([[False] * 7, [True] * 7])
    results = with_gradients(ON_CPU[implementation], qkv, mask)
    for result in results:
        assert (result[0] == 0).all()
        assert jnp.isfinite(result).all()
        assert (result[1] != 0).all()


def test_splash_pads_to_whole_blocks():
    qkv = draw((1, 600, 1, 8), 520)  # two blocks of 512 of each
    ours = with_gradients(splash, qkv, None)
    for mine, theirs in zip(ours, of_torch(qkv, None), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("b", "n", "axes"),
    [
        (4, 2, {"data": 2, "fsdp": 2, "context": 1, "tensor": 2}),
        # 3 heads do not divide over tensor, 2 rows not over context
        (2, 3, {"data": 2, "fsdp": 1, "context": 2, "tensor": 2}),
    ],
)
def test_splash_on_a_mesh_gives_each_device_its_rows_and_heads(b, n, axes):
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(AxisType.Auto,) * 4)
    qkv = draw((b, 10, n, 8), 7)
    mask = np.arange(7)[None] < np.array([[4], [7], [0], [2]])[:b]
    expected = with_gradients(ON_CPU["xla"], qkv, mask)
    qkv = jax.device_put(qkv, NamedSharding(mesh, PartitionSpec("data")))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        ours = with_gradients(splash, qkv, mask)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=TOLERANCE)
    assert len(ours[0].sharding.device_set) == 8
    spread = axes["data"] * axes["fsdp"], axes["tensor"] if n == 2 else 1
    rows, _, heads, _ = ours[0].sharding.shard_shape(ours[0].shape)
    assert (b // rows, n // heads) == spread


def test_chunked_holds_no_whole_matrix_of_weights():
    q = jax.ShapeDtypeStruct((1, 2048, 1, 8), np.float32)

    def gradients(q, k, v):
        attend = functools.partial(dot_product_attention, implementation="auto")
        return jax.grad(lambda *x: attend(*x).sum(), argnums=(0, 1, 2))(q, k, v)

    held = jax.jit(gradients).lower(q, q, q).compile().memory_analysis().temp_size_in_bytes
    assert held < 2048 * 2048 * 4


def device(kind, capability=None):
    """A jax device as far as attention looks at it; only those of GPUs have a capability."""
    own = {} if capability is None else {"compute_capability": capability}
    return types.SimpleNamespace(device_kind=kind, **own)


@pytest.fixture
def taken(monkeypatch):
    """Which implementations were called; nothing is computed."""
    module = "vidpref.models.attention.dot_product"
    found = []
    names = {
        f"{module}._attend": "xla",
        f"{module}.chunked_attention": "chunked",
        f"{module}.splash.splash_attention": "splash",
        f"{module}.cudnn.cudnn_attention": "cudnn",
    }
    for path, name in names.items():
        monkeypatch.setattr(path, lambda q, *_, name=name, **__: found.append(name) or q)
    dot_product._say.cache_clear()
    return found


def attend_on(traced, l, dtype, d=8):
    q = jax.ShapeDtypeStruct((1, l, 1, d), dtype)
    with traced_for(traced):
        jax.eval_shape(lambda q: dot_product_attention(q, q, q, implementation="auto"), q)


@pytest.mark.parametrize(
    ("kind", "capability", "dtype", "l", "expected"),
    [
        ("cpu", None, np.float32, CHUNK, "xla"),
        ("cpu", None, np.float32, CHUNK + 1, "chunked"),
        ("TPU v3", None, jnp.bfloat16, CHUNK + 1, "chunked"),
        ("TPU v4", None, np.float32, 128, "splash"),
        ("TPU v5 lite", None, jnp.bfloat16, 128, "splash"),
        ("TPU7x", None, jnp.bfloat16, 127, "xla"),
        ("NVIDIA H200", "9.0", jnp.bfloat16, 16, "cudnn"),
        ("NVIDIA H200", "9.0", np.float32, CHUNK + 1, "chunked"),
        ("NVIDIA A100-SXM4-80GB", "8.0", jnp.bfloat16, 16, "cudnn"),
        ("GRID A100D", "8.0", jnp.bfloat16, 16, "cudnn"),  # a name without NVIDIA
        ("NVIDIA B200", "10.0", jnp.float16, 16, "cudnn"),
        ("Tesla T4", "7.5", jnp.float16, 16, "xla"),
        ("NVIDIA TITAN V", "7.0", jnp.float16, CHUNK + 1, "chunked"),
        ("NVIDIA of an unknown kind", None, jnp.bfloat16, 16, "xla"),
        ("AMD Instinct MI300X", "gfx942", jnp.bfloat16, 16, "xla"),
    ],
)
def test_auto_takes_what_runs(taken, kind, capability, dtype, l, expected):
    attend_on(device(kind, capability), l, dtype)
    assert taken == [expected]


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_cards_that_are_only_described_have_the_kernel(taken, card):
    attend_on(device(card.description, ".".join(map(str, card.capability))), 16, jnp.bfloat16)
    assert taken == ["cudnn"]


def test_what_auto_took_is_printed_once(taken, capsys):
    for _ in range(3):
        attend_on(device("NVIDIA H200", "9.0"), 16, jnp.bfloat16)
        attend_on(device("Tesla T4", "7.5"), 16, jnp.float16)
        attend_on(device("cpu"), 16, np.float32)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "attention on NVIDIA H200 (compute capability 9.0): cudnn"
    assert second == (
        "attention on Tesla T4 (compute capability 7.5): xla, as cudnn runs on NVIDIA GPUs of "
        "compute capability 8.0 and later, the devices are of kind 'Tesla T4 (compute capability "
        "7.5)'"
    )


def test_unknown_implementation_names_the_nearest(qkv):
    with pytest.raises(ValueError, match="did you mean chunked"):
        dot_product_attention(*qkv, implementation="chunk")


@pytest.mark.parametrize(
    ("implementation", "traced", "message"),
    [
        ("cudnn", device("cpu"), "runs on NVIDIA GPUs of .*, the devices are of kind 'cpu'"),
        ("cudnn", device("Tesla T4", "7.5"), "8.0 and later, .* 'Tesla T4 .*7.5.*'; use 'auto'"),
        ("cudnn", device("NVIDIA H200", "9.0"), "the queries are float32"),
        ("splash", device("TPU v3"), "TPU v4 and later.*'TPU v3'; use 'auto'"),
    ],
)
def test_kernel_for_other_devices_is_refused(implementation, traced, message):
    with traced_for(traced), pytest.raises(ValueError, match=message):
        dot_product_attention(*draw((1, 4, 1, 8), 4), implementation=implementation)


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [False, True])
def test_cudnn_equals_xla_on_the_gpu(masked):
    qkv = draw((3, 130, 2, 64), 77, jnp.bfloat16)
    mask = np.random.default_rng(2).random((3, 77)) < 0.5 if masked else None
    if masked:
        mask[0] = False
    wide = [x.astype(np.float32) for x in qkv]
    with jax.default_matmul_precision("float32"):
        expected = with_gradients(ON_CPU["xla"], wide, mask)
    for implementation in ("cudnn", "auto"):
        attend = functools.partial(dot_product_attention, implementation=implementation)
        ours = with_gradients(attend, qkv, mask)
        for mine, theirs in zip(ours, expected, strict=True):
            np.testing.assert_allclose(
                np.asarray(mine, np.float32), theirs, atol=GPU_TOLERANCE * jnp.abs(theirs).max()
            )
