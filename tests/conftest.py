"""Every test runs with shape-checked signatures and without silent rank promotion.

The fixtures are folders of tiny pipelines, which tests read and do not change, and a bucket a test.
"""

import itertools
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

from tests.fake_bucket import fake_gcs, make_bucket  # noqa: E402
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


_buckets = itertools.count()


@pytest.fixture(scope="session")
def gcs(tmp_path_factory):
    with fake_gcs(tmp_path_factory.mktemp("gcs") / "log") as environment:
        yield environment


@pytest.fixture
def address(gcs, monkeypatch, tmp_path):
    """The address of a folder in a bucket of its own; what is brought from it lies in tmp_path."""
    for name, value in gcs.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VIDPREF_CACHE", str(tmp_path / "cache"))
    bucket = f"bucket-{next(_buckets)}"
    make_bucket(gcs["STORAGE_EMULATOR_HOST"], bucket)
    return f"gs://{bucket}/a run"
