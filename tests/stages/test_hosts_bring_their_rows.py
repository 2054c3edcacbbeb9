"""Of the clips of a list in a bucket, a host brings those that it reads; the first, all."""

import pandas as pd

from tests.end_to_end.tiny import few_preferences
from tests.two_processes import run_two
from vidpref.storage.bucket import Bucket

WORKER = "tests/stages/bring_in_two_processes.py"


def test_the_second_host_brings_its_half(address, tmp_path):
    files, out, bucket = tmp_path / "files", tmp_path / "latents", Bucket(address)
    files.mkdir()
    out.mkdir()
    few_preferences(files)
    for path in files.iterdir():
        bucket.put_file(path.name, path)
    run_two(WORKER, address, tmp_path / "caches", out)
    clips = pd.read_parquet(out / "clips.parquet")["id"].tolist()
    assert sorted(clips) == sorted(path.name for path in files.glob("*.mp4"))

    def brought(rank):
        return {path.name for path in (tmp_path / "caches" / str(rank)).rglob("*.mp4")}

    assert brought(0) == {*clips}  # it digests all of them
    assert brought(1) == {*clips[4:]}  # those of the second half of the rows
