"""Every test runs with shape-checked signatures and without silent rank promotion.

The fixtures are folders of tiny pipelines, which tests read and do not change.
"""

import logging
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
# Compiling is most of the time, and what is compiled runs but a few times; programs that tests
# start inherit it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

from jaxtyping import install_import_hook

install_import_hook("vidpref", "beartype.beartype")

# After the hook, which must see every module of vidpref.
import jax  # noqa: E402
import pytest  # noqa: E402

from tests.tiny_pipelines import tiny_cogvideox, tiny_wan  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def what_is_logged():
    """The programs' `main` logs warnings only; tests after one that runs it see all again."""
    loggers = [logging.getLogger(), logging.getLogger("absl")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("wan")
    tiny_wan(path)
    return path


@pytest.fixture(scope="session")
def cogvideox_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cogvideox")
    tiny_cogvideox(path)
    return path


@pytest.fixture(scope="session")
def image_to_video_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cogvideox_i2v")
    tiny_cogvideox(path, image_to_video=True)
    return path


@pytest.fixture(scope="session")
def wan_image_to_video_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("wan_i2v")
    tiny_wan(path, image_to_video=True)
    return path
