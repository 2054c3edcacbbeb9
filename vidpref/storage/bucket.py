"""Objects of Google Cloud Storage below an address: put whole, read, listed, created once.

An object appears whole or not at all, whoever is killed, and a listing shows at once what was put.
Credentials are found by gcsfs: those of the machine's service account, or of `gcloud auth
application-default login`. With STORAGE_EMULATOR_HOST set, a server that stands in for Google's is
asked, without credentials.
"""

import contextlib
import dataclasses
import email.utils
import json
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

_ADDRESS = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?P<prefix>/.*)?")
_PAGE = 1000  # objects of one answer: the most there can be
_AT_ONCE = 5 * 2**20  # bytes up to which a file is sent in one request
_PIECE = 2**25  # bytes that are fetched in one request
_BOUNDARY = "=vidpref="
_FIELDS = "items(name,size,generation,md5Hash),nextPageToken"


class StorageError(OSError):
    """A bucket that cannot be used; the message names its address, and says what to do."""


@dataclasses.dataclass(frozen=True)
class Object:
    """What a listing says of an object.

    Attributes:
        size: in bytes.
        generation: a number that every put changes; microseconds since 1970.
        md5: of its bytes, in base64; "" where the service does not know it.
    """

    size: int
    generation: int
    md5: str


@dataclasses.dataclass(frozen=True)
class Content:
    """An object's bytes.

    Attributes:
        data: the bytes.
        generation: see `Object`.
        age: seconds since it was put, by the clock of the service, which gives whole ones.
    """

    data: bytes
    generation: int
    age: float


class Bucket:
    """The objects whose names begin with an address.

    Args:
        address: gs://BUCKET or gs://BUCKET/FOLDER.

    Raises:
        StorageError: another address, or gcsfs is not installed.
    """

    def __init__(self, address: str):
        match = _ADDRESS.fullmatch(address)
        if match is None or "//" in (match["prefix"] or "").rstrip("/"):
            raise StorageError(f"{address}: give gs://BUCKET/FOLDER, with the name of a bucket")
        self.bucket, prefix = match["bucket"], (match["prefix"] or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.address = f"gs://{self.bucket}/{prefix}".rstrip("/")
        self._files = _file_system(address)

    def listing(self, below: str = "") -> dict[str, Object]:
        """Returns the objects whose names begin with `below`, as of now.

        Raises:
            StorageError: no such bucket, or it may not be read.
        """
        found: dict[str, Object] = {}
        page = None
        while True:
            options = {"pageToken": page} if page else {}
            with self._in_words("read"):
                answer = self._files.call(
                    *("GET", "b/{}/o", self.bucket),
                    prefix=self._prefix + below,
                    maxResults=_PAGE,
                    fields=_FIELDS,
                    json_out=True,
                    **options,
                )
            for item in answer.get("items", ()):
                name = item["name"].removeprefix(self._prefix)
                if name and not name.endswith("/"):  # a folder, as some programs make them
                    found[name] = Object(
                        int(item["size"]), int(item["generation"]), item.get("md5Hash", "")
                    )
            page = answer.get("nextPageToken")
            if not page:
                return found

    def put(self, name: str, data: bytes, *, over: int | None = None) -> int:
        """Puts an object and returns its generation.

        Args:
            name: its name below the address.
            data: its bytes.
            over: the generation that it must have now, 0 for none; None for any.

        Raises:
            FileExistsError: it has another generation; nothing was put.
            StorageError: no such bucket, or it may not be written.
        """
        head = json.dumps({"name": self._prefix + name})
        kinds = ("application/json; charset=UTF-8", "application/octet-stream")
        parts = [f"--{_BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() for kind in kinds]
        body = b"".join([parts[0], head.encode(), b"\r\n", parts[1], data])
        with self._in_words("written"):
            answer = self._files.call(
                "POST",
                f"{self._files.base.replace('/storage/v1/', '/upload/storage/v1/')}b/{{}}/o",
                self.bucket,
                uploadType="multipart",
                headers={"Content-Type": f'multipart/related; boundary="{_BOUNDARY}"'},
                data=body + f"\r\n--{_BOUNDARY}--".encode(),
                json_out=True,
                **({} if over is None else {"ifGenerationMatch": str(over)}),
            )
        return int(answer["generation"])

    def put_file(self, name: str, path: Path) -> int:
        """Puts what is in a file; returns the object's generation.

        Raises:
            StorageError: see `put`.
        """
        if path.stat().st_size < _AT_ONCE:
            return self.put(name, path.read_bytes())
        with self._in_words("written"):
            self._files.put_file(os.fspath(path), self._key(name))
        return self.listing(name)[name].generation

    def read(self, name: str) -> Content | None:
        """Returns what an object holds, None where there is none.

        Raises:
            StorageError: it may not be read.
        """
        try:
            with self._in_words("read", missing=False):
                headers, data = self._files.call(
                    *("GET", "b/{}/o/{}", self.bucket, self._prefix + name), alt="media"
                )
        except FileNotFoundError:
            return None
        return Content(data, int(headers["X-Goog-Generation"]), _age(headers))

    def get_file(
        self, name: str, path: Path, size: int, told: Callable[[int], None] = lambda count: None
    ) -> int:
        """Writes what an object holds into a file, whole or not at all; returns its generation.

        Args:
            name: its name below the address.
            path: the file; its folder is made.
            size: bytes of the object, as it was listed.
            told: told the bytes of each piece; what it raises ends this.

        Raises:
            StorageError: there is no such object, or it may not be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
        try:
            with temporary.open("wb") as file:
                generation = self._fetch(name, file, size, told)
            temporary.replace(path)
            return generation
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, name: str, *, generation: int | None = None) -> None:
        """Deletes an object, if there is one.

        Args:
            name: its name below the address.
            generation: only with this one; None for any.

        Raises:
            StorageError: it may not be deleted.
        """
        only = {} if generation is None else {"ifGenerationMatch": str(generation)}
        gone = contextlib.suppress(FileNotFoundError, FileExistsError)
        with gone, self._in_words("written", missing=False):
            self._files.call("DELETE", "b/{}/o/{}", self.bucket, self._prefix + name, **only)

    def _fetch(self, name: str, file: BinaryIO, size: int, told: Callable[[int], None]) -> int:
        generation = 0
        for start in range(0, max(size, 1), _PIECE):
            stop, part = min(start + _PIECE, size), {}
            if size > _PIECE:
                part = {"headers": {"Range": f"bytes={start}-{stop - 1}"}}
            if start:  # all of one object, whoever puts another meanwhile
                part["generation"] = str(generation)
            with self._in_words("read", name):
                headers, data = self._files.call(
                    *("GET", "b/{}/o/{}", self.bucket, self._prefix + name), alt="media", **part
                )
            if part and len(data) != stop - start:
                raise StorageError(
                    f"{self.address}/{name}: {len(data)} bytes came of the {stop - start} from "
                    f"{start} on: it was changed meanwhile. Give the same command again."
                )
            generation = int(headers["X-Goog-Generation"])
            file.write(data)
            told(len(data))
        return generation

    def _key(self, name: str) -> str:
        return f"{self.bucket}/{self._prefix}{name}"

    @contextlib.contextmanager
    def _in_words(self, done: str, name: str = "", *, missing: bool = True) -> Iterator[None]:
        """Turns what gcsfs raises into a sentence; FileExistsError stays, as the service means it.

        Args:
            done: what was to be done with the bucket.
            name: of an object that was listed.
            missing: whether a missing object is an error too.
        """
        try:
            yield
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            if not missing:
                raise
            if name:
                raise StorageError(
                    f"{self.address}/{name}: gone, or another one, since it was listed. Put it "
                    "back or leave it alone, and give the same command again."
                ) from error
            raise StorageError(
                f"{self.address}: there is no bucket {self.bucket}. `gcloud storage buckets create "
                f"gs://{self.bucket} --location=REGION` makes one."
            ) from error
        except Exception as error:
            if not _of_the_service(error):
                raise
            said = " ".join(str(error).split())[:300]
            if getattr(error, "code", None) in (401, 403) or said.startswith("Forbidden"):
                role = "objectViewer" if done == "read" else "objectUser"
                raise StorageError(
                    f"{self.address} may not be {done} by this account ({said}). Give it the role "
                    f"roles/storage.{role} on gs://{self.bucket}; outside Google Cloud, log in "
                    "with `gcloud auth application-default login`."
                ) from error
            raise StorageError(
                f"{self.address} cannot be {done}: {type(error).__name__}: {said}"
            ) from error


def _age(headers: Mapping[str, str]) -> float:
    now, put = (
        email.utils.parsedate_to_datetime(headers[name]) for name in ("Date", "Last-Modified")
    )
    return max(0.0, (now - put).total_seconds())


def _of_the_service(error: Exception) -> bool:
    """Whether the bucket, the network or the credentials are to blame."""
    known = ("gcsfs", "aiohttp", "requests", "google", "asyncio")
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith(known)


def _file_system(address: str) -> Any:
    """What talks to the service; Orbax and jax, which have their own, are told the same."""
    # by default gcsfs asks how every bucket is laid out, which emulators and some accounts refuse
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        import fsspec.config
        import gcsfs
    except ImportError as error:
        raise StorageError(
            f'{address}: gs:// needs the package gcsfs: pip install -e ".[gcs]"'
        ) from error
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it raises is said in words
    options = {"use_listings_cache": False}  # other hosts put objects as well
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        options["token"] = "anon"
    for scheme in ("gs", "gcs"):
        fsspec.config.conf.setdefault(scheme, {}).update(options)
    return gcsfs.GCSFileSystem(**options)
