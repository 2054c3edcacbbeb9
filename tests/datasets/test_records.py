import os
import pickle
import subprocess
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from vidpref.datasets.records import BrokenRecords, RecordFile, pack, unpack, write_records


def _clips(count, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield {
            "id": f"clip/{i} ü",
            "video": rng.integers(0, 256, (4, 6, 5, 3), np.uint8),
            "score": float(rng.normal()),
            "sample": i,
        }


def _equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        if isinstance(a[name], np.ndarray):
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])
        else:
            assert a[name] == b[name]
            assert type(a[name]) is type(b[name])


@pytest.mark.parametrize(
    "value",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),  # not contiguous
        np.array([True, False]),
        np.array(3.5, np.float16),
        np.zeros((0, 7), np.int32),
        np.asarray(jnp.arange(5, dtype=jnp.bfloat16)),
        np.array([1, 2], ">i4"),
        np.array(["ab", "ü"]),
    ],
    ids=lambda v: f"{v.dtype}{v.shape}",
)
def test_arrays_survive_packing(value):
    _equal(unpack(pack({"x": value, "y": 1})), {"x": value, "y": 1})


@pytest.mark.parametrize("value", ["", "a\nü\0", 2**60, -1, 1.5, float("inf"), True])
def test_scalars_survive_packing(value):
    _equal(unpack(pack({"x": value})), {"x": value})


def test_numpy_scalars_become_python_numbers():
    assert unpack(pack({"x": np.float32(0.5), "n": np.int64(3)})) == {"x": 0.5, "n": 3}


@pytest.mark.parametrize("value", [None, [1, 2], {"a": 1}, np.array([None]), b"raw"])
def test_other_values_are_refused_by_name(tmp_path, value):
    with pytest.raises(ValueError, match=r"record 0: field 'bad' is"):
        write_records(tmp_path / "x.array_record", [{"bad": value}])
    assert list(tmp_path.iterdir()) == []


def test_several_files_read_as_one_in_any_order(tmp_path):
    expected = list(_clips(7))
    sizes = (3, 0, 4)  # a process of a pod may hold no row
    paths = [tmp_path / f"{i}.array_record" for i in range(3)]
    start = 0
    for path, size in zip(paths, sizes, strict=True):
        assert write_records(path, expected[start : start + size]) == size
        start += size
    records = RecordFile(paths)
    assert len(records) == 7
    for i in (6, 0, 3, 2, 5, 1, 4):
        _equal(records[i], expected[i])
    _equal(records[np.int64(4)], expected[4])
    for bad in (7, -1):
        with pytest.raises(IndexError, match=f"record {bad} of 7"):
            records[bad]


def test_threads_and_pickles_read_the_same(tmp_path):
    expected = list(_clips(50))
    path = tmp_path / "x.array_record"
    write_records(path, expected)
    records = RecordFile(str(path))
    failures = []

    def read(seed):
        try:
            for i in np.random.default_rng(seed).permutation(50):
                _equal(records[int(i)], expected[i])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    _equal(pickle.loads(pickle.dumps(records))[49], expected[49])


@pytest.mark.parametrize("keep", [0, 100, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "cut.array_record"
    write_records(path, _clips(400))
    size = path.stat().st_size
    os.truncate(path, int(keep if keep > 1 else keep * size))
    with pytest.raises(BrokenRecords, match=r"cut\.array_record is truncated"):
        RecordFile(path)


def test_a_damaged_record_is_named(tmp_path):
    path = tmp_path / "hurt.array_record"
    write_records(path, _clips(400))
    data = bytearray(path.read_bytes())
    for i in range(70_000, 70_040):
        data[i] ^= 0xFF
    path.write_bytes(data)
    records = RecordFile(path)
    good, bad = 0, []
    for i in range(400):
        try:
            records[i]
            good += 1
        except BrokenRecords as error:
            bad.append(str(error))
    assert bad
    assert good > 300
    assert all("hurt.array_record: record" in message for message in bad)


def test_missing_and_no_files(tmp_path):
    with pytest.raises(BrokenRecords, match=r"nowhere\.array_record: no such file"):
        RecordFile(tmp_path / "nowhere.array_record")
    with pytest.raises(BrokenRecords, match="no record file"):
        RecordFile([])


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.array_record"
    write_records(path, _clips(3))

    def breaks():
        yield from _clips(2, seed=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(path, breaks())
    assert len(RecordFile(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["x.array_record"]


def test_a_killed_write_leaves_no_file_under_the_name(tmp_path):
    program = """
import os, signal, sys
import numpy as np
from vidpref.datasets.records import write_records
def records():
    for i in range(100):
        yield {"x": np.zeros(1000)}
        if i == 50:
            os.kill(os.getpid(), signal.SIGKILL)
write_records(sys.argv[1], records())
"""
    path = tmp_path / "x.array_record"
    result = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert result.returncode == -9
    assert not path.exists()
