"""Every test runs with shape-checked signatures and without silent rank promotion."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

from jaxtyping import install_import_hook

install_import_hook("vidpref", "beartype.beartype")

import jax  # noqa: E402 - after the hook, which must see every module of vidpref

jax.config.update("jax_numpy_rank_promotion", "raise")
