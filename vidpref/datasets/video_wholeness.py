"""Whether a video file has all the bytes that its own structure states."""

import os
import struct
from typing import BinaryIO

from av.container import InputContainer
from av.video.stream import VideoStream

_GIF_EXTENSION, _GIF_IMAGE = b"\x21", b"\x2c"
_SEGMENT = b"\x18\x53\x80\x67"  # of Matroska and WebM: everything behind the first element


def missing_bytes(
    path: str | os.PathLike, container: InputContainer, stream: VideoStream
) -> int | None:
    """Returns how many bytes are missing at the end; None where the container does not tell.

    A stated duration alone does not tell a truncated file from one whose last frame is shown for
    long; sizes and offsets do.
    """
    read = _STATED_SIZES.get(container.format.name.split(",")[0])
    if read is None:
        return None
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        stated = read(file, size)
    if container.format.name.startswith("mov"):
        if stated is None:
            stated = max((e.pos + e.size for e in stream.index_entries), default=None)
        if not stream.frames and (stated or 0) <= size:
            return None  # in fragments, which may end after any
    return None if stated is None else max(0, stated - size)


def _end_of_boxes(file: BinaryIO, size: int) -> int | None:
    """MP4 and MOV: a row of boxes; None where one goes on to the end of the file, however far."""
    at = 0
    while at + 16 <= size:
        file.seek(at)
        length, name, long_length = struct.unpack(">I4sQ", file.read(16))
        if length == 1:
            length = long_length
        if length < 8:
            return None
        if at + length > size and name not in (b"mdat", b"moov", b"moof"):
            break  # something that was appended to a whole file
        at += length
    return at or None


def _end_of_segment(file: BinaryIO, size: int) -> int | None:
    """Matroska and WebM: RFC 8794, section 4, and RFC 9559, section 5.1."""
    file.seek(4)
    header = _element_size(file)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return None
    length = _element_size(file)
    return None if length is None else file.tell() + length


def _element_size(file: BinaryIO) -> int | None:
    """The number of leading zero bits of the first byte says how many more bytes there are."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + file.read(more)) & (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value  # all ones: written live, size unknown


def _end_of_riff(file: BinaryIO, size: int) -> int | None:
    """AVI: a row of RIFF chunks, more than one where it is large."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or not length:
            break
        at += 8 + length + length % 2
    return at or None


def _end_of_flv(file: BinaryIO, size: int) -> int | None:
    """Flash video: the size among the values of its first tag, where the writer put it."""
    head = file.read(1 << 16)
    at = head.find(b"\x00\x08filesize\x00")
    if at < 0 or at + 19 > len(head):
        return None
    stated = struct.unpack(">d", head[at + 11 : at + 19])[0]
    return int(stated) if 0 < stated < 2**53 else None


def _end_of_gif(file: BinaryIO, size: int) -> int | None:
    """GIF89a: blocks, each in pieces of at most 255 bytes behind their length, up to a trailer."""
    file.seek(10)
    file.seek(2 + _colours(file.read(1)), os.SEEK_CUR)
    while (kind := file.read(1)) == _GIF_EXTENSION or kind == _GIF_IMAGE:
        if kind == _GIF_IMAGE:
            file.seek(8, os.SEEK_CUR)
            file.seek(_colours(file.read(1)), os.SEEK_CUR)
        file.seek(1, os.SEEK_CUR)
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
        else:
            return max(size, file.tell()) + 1
    return size  # the trailer, or its place: not every writer puts one


def _colours(flags: bytes) -> int:
    """Bytes of the table of colours behind these flags."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


_STATED_SIZES = {
    "mov": _end_of_boxes,
    "matroska": _end_of_segment,
    "avi": _end_of_riff,
    "flv": _end_of_flv,
    "gif": _end_of_gif,
}
