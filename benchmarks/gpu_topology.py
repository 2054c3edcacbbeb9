"""GPUs to compile for that need not be there; `pip install "jax[cuda13]"` brings the compiler."""

from typing import Any

# Before jax is imported. Without autotuning, as there is no device to time kernels on; and without
# Triton's matrix products, which find no tile without it.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false",
}

# An H100 as its data sheet and the CUDA documentation have it (compute capability 9.0). Smaller
# cards share its instructions; what a program holds hardly depends on the card.
_H100 = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 48 * 2**10,
    "shared_memory_per_core": 228 * 2**10,
    "threads_per_core_limit": 2048,
    "core_count": 132,
    "fpus_per_core": 128,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 2**16 - 1,
    "block_dim_limit_z": 2**16 - 1,
    "memory_bandwidth": 3_350_000_000_000,
    "l2_cache_size": 50 * 2**20,
    "clock_rate_ghz": 1.98,
    "device_memory_size": 80 * 2**30,
    "shared_memory_per_block_optin": 227 * 2**10,
    "registers_per_core_limit": 2**16,
    "registers_per_block_limit": 2**16,
}


def devices(count: int) -> list[Any]:
    """Returns `count` H100s of one host, for `make_mesh`."""
    from jax.experimental import topologies

    fields = " ".join(f"{name}: {value}" for name, value in _H100.items())
    target = (
        f"gpu_device_info {{ {fields} cuda_compute_capability {{ major: 9 }} }} "
        'platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 } '
        'runtime_version { major: 13 } device_description_str: "NVIDIA H100 80GB HBM3"'
    )
    found = topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=target, topology=f"1x1x{count}"
    )
    return found.devices
