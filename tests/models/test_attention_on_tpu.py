"""Splash attention, forward and backward, through the TPU compiler, without a TPU."""

from tests import tpu_compiler

COMPILE = """
import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from vidpref.models.attention import dot_product_attention
from vidpref.training.sharding import in_scope, make_mesh

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices
mesh = make_mesh({"fsdp": 2, "context": 2, "tensor": 2}, devices)

def loss(q, k, v, mask):
    attend = lambda k, v, mask: dot_product_attention(q, k, v, mask, implementation="auto")
    return (attend(q, q, None) + attend(k, v, mask)).astype("float32").sum()

def struct(shape, dtype):
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

for dtype, d in (("bfloat16", 128), ("bfloat16", 64), ("float32", 128)):
    q, k = struct((4, 1500, 2, d), dtype), struct((4, 226, 2, d), dtype)
    with in_scope(mesh):
        lowered = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(
            q, k, k, struct((4, 226), "bool")
        )
    kernels = lowered.compile().as_text().count('custom_call_target="tpu_custom_call"')
    print(dtype, d, kernels, "kernels")
"""


@tpu_compiler.needs_libtpu
def test_auto_is_splash_on_a_tpu_slice():
    lines = tpu_compiler.run("-c", COMPILE).splitlines()
    # to itself and to the text: forward, gradient of queries, gradient of keys and values
    expected = [f"{name} 6 kernels" for name in ("bfloat16 128", "bfloat16 64", "float32 128")]
    assert lines == expected
