"""A disk without space is named, with what to do, whatever library says so."""

import errno
import shutil

import pytest

from vidpref.coordination.store import HostsError
from vidpref.runs.full_disk import DiskFull
from vidpref.runs.graph import Stage, run_stage
from vidpref.storage.mirror import open_folder

FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    RuntimeError("write() failed: No space left on device; writing /x/.a.array_record"),
    ValueError('RESOURCE_EXHAUSTED: Failed writing: "/x/d/2a": No space left on device'),
)


def fail(error, folder):
    def body(path):
        raise error

    run_stage(Stage("sample", body, {}), folder, lambda line: None)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_named(error, tmp_path):
    with pytest.raises(DiskFull) as raised:
        fail(error, tmp_path)
    size = f"{shutil.disk_usage(tmp_path).total / 1e9:.3g} GB"
    assert str(raised.value).startswith(f"{tmp_path}/sample-")
    assert f"no space is left on its disk, of {size}. Make room" in str(raised.value)
    assert raised.value.__cause__ is error


def test_of_a_bucket_the_folder_here_is_named_and_can_be_another(address):
    with pytest.raises(DiskFull, match="or set VIDPREF_CACHE to a folder of a larger disk, and"):
        fail(FULL[0], open_folder(address))


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("other"),
        HostsError("host 1: DiskFull: No space left on device"),
    ],
)
def test_other_errors_stay_as_they_are(error, tmp_path):
    with pytest.raises(type(error)) as raised:
        fail(error, tmp_path)
    assert raised.value is error
