"""Operations of traced programs against closed forms."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from vidpref.models.attention.cudnn import cudnn_attention
from vidpref.models.attention.dot_product import dot_product_attention
from vidpref.planning.flops import count_flops

WIDTH, ROWS, LAYERS = 16, 8, 3


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.gelu(nn.Dense(WIDTH, name="proj")(x)), None


class Network(nn.Module):
    remat: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(WIDTH, name="stem")(x)
        layer = nn.remat(Layer, prevent_cse=False) if self.remat else Layer
        layers = nn.scan(
            layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS
        )
        x, _ = layers(name="blocks")(x, None)
        return nn.Dense(4, name="head")(x)


def step(remat):
    network, x = Network(remat), jnp.ones((ROWS, WIDTH))
    params = jax.eval_shape(network.init, jax.random.key(0), x)
    return count_flops(jax.jit(jax.grad(lambda p: network.apply(p, x).sum())).trace(params))


@pytest.mark.parametrize("remat", [False, True])
def test_a_gradient_costs_twice_the_forward_pass_and_remat_that_of_its_layers_once_more(remat):
    layer, head = 2 * ROWS * WIDTH * WIDTH, 2 * ROWS * WIDTH * 4
    forward = (LAYERS + 1) * layer + head
    found = step(remat)
    # of the stem no gradient of its input is wanted
    assert found.rematerialized == remat * LAYERS * layer
    assert found.total == 3 * forward - layer + found.rematerialized
    assert found.modules["Network/blocks/proj"] == (3 + remat) * LAYERS * layer
    assert found.modules["Network/stem"] == 2 * layer
    assert found.modules["Network/head"] == 3 * head


def test_modules_are_listed_by_what_they_cost():
    found = step(False)
    names = [name for name, _ in found.by_module(depth=2)]
    assert names == ["Network/blocks", "Network/stem", "Network/head"]
    first, rest = found.by_module(depth=2, most=1)
    assert rest == ("others", found.total - first[1])


def test_convolutions_count_their_windows():
    def f(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 10))
    forward = 2 * (2 * 4 * 4 * 10) * (3 * 3 * 6)
    assert count_flops(jax.jit(f).trace(x, kernel)).total == forward
    # the gradient of the input stretches by the strides: what it multiplies with zeros is none
    of_input = jax.jit(jax.grad(lambda x: f(x, kernel).sum()))
    assert count_flops(of_input.trace(x)).total == pytest.approx(2 * forward)


def test_grouped_convolutions_see_their_group_only():
    def f(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=6,
        )

    found = count_flops(jax.jit(f).trace(jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 1, 6))))
    assert found.total == 2 * (2 * 8 * 8 * 6) * 9


def test_a_program_of_every_device_counts_once_a_device():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))
    by_hand = jax.shard_map(
        lambda x, y: x @ y,
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec(None, "fsdp")),
        out_specs=PartitionSpec("data", "fsdp"),
    )
    found = count_flops(jax.jit(by_hand).trace(jnp.ones((8, 16)), jnp.ones((16, 32))))
    assert found.total == 2 * 8 * 16 * 32


def test_of_branches_counts_the_dearest():
    def f(which, x):
        return jax.lax.cond(which, lambda x: x @ x, lambda x: x @ x @ x, x)

    found = count_flops(jax.jit(f).trace(True, jnp.ones((4, 4))))
    assert found.total == 2 * (2 * 4**3)


def test_attention_by_cudnn_counts_as_by_xla_and_its_own_recomputation_apart(monkeypatch):
    monkeypatch.setattr(
        "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91200
    )
    shapes = [jax.ShapeDtypeStruct((2, l, 3, 64), jnp.bfloat16) for l in (600, 78, 78)]

    def counted(attend, remat):
        attend = jax.checkpoint(attend) if remat else attend
        loss = lambda *x: attend(*x).astype(jnp.float32).sum()  # noqa: E731
        return count_flops(jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*shapes))

    product = 2 * 2 * 600 * 3 * 78 * 64
    for remat in (False, True):
        xla = counted(dot_product_attention, remat)
        cudnn = counted(lambda q, k, v: cudnn_attention(q, k, v, None), remat)
        assert xla.total - xla.rematerialized == 6 * product
        assert cudnn.total - cudnn.rematerialized == 6 * product
        # of the forward pass, and the weights in the kernel
        assert cudnn.rematerialized == (2 * remat + 1) * product
