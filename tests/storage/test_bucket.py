"""Objects below an address, against a server that stands in for Google's."""

import http.server
import os
import threading

import pytest

from vidpref.storage import bucket as buckets
from vidpref.storage.bucket import Bucket, StorageError


def test_what_is_put_is_read_and_listed_whole(address, tmp_path, monkeypatch):
    bucket = Bucket(address)
    assert bucket.listing() == {}
    assert bucket.read("a.json") is None
    generation = bucket.put("a.json", b"one")
    assert bucket.read("a.json").data == b"one"
    assert bucket.put("a.json", b"other") != generation
    odd = "folder/100% é#?+&.json"
    bucket.put(odd, b"")
    large = tmp_path / "large"
    large.write_bytes(os.urandom(buckets._AT_ONCE + 3))
    size = large.stat().st_size
    generation = bucket.put_file("folder/large", large)
    monkeypatch.setattr(buckets, "_PIECE", 2**20)
    assert bucket.get_file("folder/large", tmp_path / "new" / "got", size) == generation
    assert (tmp_path / "new" / "got").read_bytes() == large.read_bytes()
    assert os.listdir(tmp_path / "new") == ["got"]
    sizes = {name: o.size for name, o in bucket.listing().items()}
    assert sizes == {"a.json": 5, odd: 0, "folder/large": size}
    assert set(bucket.listing("folder/")) == {odd, "folder/large"}
    bucket.delete(odd)
    bucket.delete(odd)
    assert set(bucket.listing("folder/")) == {"folder/large"}


def test_listings_of_several_pages_are_whole(address, monkeypatch):
    monkeypatch.setattr(buckets, "_PAGE", 2)
    bucket = Bucket(address)
    for number in range(5):
        bucket.put(f"{number}", b"x")
    assert set(bucket.listing()) == {"0", "1", "2", "3", "4"}


def test_only_one_creates_an_object(address):
    bucket = Bucket(address)
    generation = bucket.put("lock", b"mine", over=0)
    with pytest.raises(FileExistsError):
        bucket.put("lock", b"yours", over=0)
    renewed = bucket.put("lock", b"mine again", over=generation)
    with pytest.raises(FileExistsError):
        bucket.put("lock", b"yours", over=generation)
    found = bucket.read("lock")
    assert (found.data, found.generation) == (b"mine again", renewed)
    assert 0 <= found.age < 60


def test_a_bucket_that_is_not_there_is_named(address):
    bucket = Bucket("gs://no-such-bucket/run")
    for call in (bucket.listing, lambda: bucket.put("a", b"")):
        with pytest.raises(StorageError, match="gs://no-such-bucket/run: there is no bucket no-s"):
            call()


@pytest.mark.parametrize("place", ["gs://", "gs://b/run", "gs://bucket//run", "gs://Big_/run"])
def test_no_address_of_a_bucket_is_refused(place):
    with pytest.raises(StorageError, match="give gs://BUCKET/FOLDER"):
        Bucket(place)


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Answers like Google to an account without rights: it may list, and nothing more."""

    def do_GET(self):
        if self.path.partition("?")[0].endswith("/o"):
            self._answer(200, b"{}")
        else:
            self._answer(403, b'{"error": {"code": 403, "message": "no storage.objects.get"}}')

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(403, b'{"error": {"code": 403, "message": "no storage.objects.create"}}')

    def _answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def test_a_bucket_without_rights_is_named_with_the_role(gcs, monkeypatch, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        bucket = Bucket("gs://bucket/run")
        assert bucket.listing() == {}
        with pytest.raises(StorageError) as refused:
            bucket.put("a", b"", over=0)
        with pytest.raises(StorageError, match="may not be read by this account") as unread:
            bucket.get_file("a", tmp_path / "a", 1)
        server.shutdown()
    assert "roles/storage.objectViewer on gs://bucket" in str(unread.value)
    assert not list(tmp_path.iterdir())
    said = str(refused.value)
    assert said.startswith("gs://bucket/run may not be written by this account (")
    assert "no storage.objects.create" in said
    assert "roles/storage.objectUser on gs://bucket" in said


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(StorageError, match=r"gs://bucket/run: .* pip install -e \"\.\[gcs\]\""):
        Bucket("gs://bucket/run")
