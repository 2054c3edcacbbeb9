"""Drawn clips into files, one at a time: what was drawn is kept, whatever happens."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from vidpref.files import whole_file
from vidpref.typing import Array, Float, UInt8


class NotWritten(OSError):
    """Clips were drawn and could not be put where they should go; the message says where they are.

    They are in another folder, and drawing went on to the end.
    """


class ClipFiles:
    """The files of drawn clips, and of their latents; a context manager around the drawing.

    Where a file cannot be written any more (a full disk, no permission), it and all that follow go
    to a new folder in that of temporary files, or in the working directory. Latents are written at
    the end, be it early.

    Args:
        out: a video file, or a folder for several clips; with several clips "fox.mp4" stands for
            "fox-000.mp4", "fox-001.mp4", ...
        count: how many clips there will be.
        latents: .npy file of the latents, channels first, [clips, channels, frames, height, width];
            "" for none.
    """

    def __init__(self, out: str, count: int, latents: str = ""):
        self._out, self._count = out, count
        self._latents_path = Path(latents) if latents else None
        self._latents: list[np.ndarray] = []
        self._written = 0
        self._elsewhere: Path | None = None
        self._why: Exception | None = None

    def path(self, index: int) -> Path:
        """Returns where a clip should go."""
        out = Path(self._out)
        if not self._is_video:
            return out / f"{index:03d}.mp4"
        return out if self._count == 1 else out.with_stem(f"{out.stem}-{index:03d}")

    def check(self, inputs: Sequence[str] = ()) -> None:
        """Refuses names that cannot be written, before anything is drawn.

        Args:
            inputs: files that are read, which no clip may overwrite.

        Raises:
            ValueError: a folder in the place of a file or the reverse, a folder without permission
                to write, a file that is read, or latents that are no .npy.
        """
        out = Path(self._out)
        if not self._is_video and out.exists() and not out.is_dir():
            raise ValueError(f"--out={out} is a file: name a folder, or a video such as {out}.mp4")
        read = {Path(path).resolve() for path in inputs}
        for path in map(self.path, range(self._count)):
            if path.is_dir():
                raise ValueError(
                    f"--out={self._out}: {path} is a folder; name a video file, or end the name of "
                    "a folder with /"
                )
            if path.resolve() in read:
                raise ValueError(f"--out={self._out}: {path} is read, and would be overwritten")
        _check_place(self.path(0))
        if self._latents_path is not None:
            if self._latents_path.suffix != ".npy" or self._latents_path.is_dir():
                raise ValueError(
                    f"--save_latents={self._latents_path}: name a file that ends in .npy"
                )
            _check_place(self._latents_path)

    def check_encoding(self, height: int, width: int, fps: float) -> None:
        """Refuses a suffix, a size or a rate that cannot be encoded.

        Args:
            height, width: size of the clips in pixels.
            fps: frames a second.

        Raises:
            ValueError: see `encode_clip`.
        """
        from vidpref.datasets.video_writing import encode_clip_bytes  # brings in FFmpeg

        black = np.zeros((1, height, width, 3), np.uint8)
        encode_clip_bytes(black, fps, container=self.path(0).suffix.lstrip("."))

    def add(
        self, clip: UInt8[Array, "t h w 3"], latent: Float[Array, "t2 h2 w2 c"] | None, fps: float
    ) -> Path:
        """Writes the next clip and returns where it is; keeps its latent for the end."""
        from vidpref.datasets.video_writing import encode_clip

        if latent is not None and self._latents_path is not None:
            self._latents.append(latent)
        path = self._put(self.path(self._written), lambda path: encode_clip(path, clip, fps), clip)
        self._written += 1
        return path

    def __enter__(self) -> "ClipFiles":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._latents:
            stacked = np.moveaxis(np.stack(self._latents), -1, 1)
            self._put(self._latents_path, lambda path: _save(path, stacked), stacked)
        if error is not None:
            if self._written:
                error.add_note(f"{self._written} of {self._count} clips are drawn: {self._places}")
        elif self._why is not None:
            raise NotWritten(f"not all files could be written: {self._why}; {self._places}")

    @property
    def _is_video(self) -> bool:
        return bool(Path(self._out).suffix) and not self._out.endswith("/")

    @property
    def _places(self) -> str:
        where = self.path(0).parent
        return f"they are in {where}" + (f" and {self._elsewhere}" if self._elsewhere else "")

    def _put(self, path: Path, write: Callable[[Path], None], values: Array) -> Path:
        """Writes a file, or if that fails one in another folder; at last the bare array."""
        if self._elsewhere is None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path)
                return path
            except (OSError, ValueError) as error:
                self._why = error
        for folder in self._other_folders():
            for name, way in ((path.name, write), (f"{path.stem}.npy", lambda p: _save(p, values))):
                try:
                    way(folder / name)
                except (OSError, ValueError):
                    continue
                self._elsewhere = folder
                return folder / name
        raise self._why

    def _other_folders(self) -> Iterator[Path]:
        """Folders to try, each made when it is its turn."""
        if self._elsewhere is not None:
            yield self._elsewhere
            return
        for parent in (tempfile.gettempdir(), os.getcwd()):
            try:
                yield Path(tempfile.mkdtemp(prefix="vidpref-clips-", dir=parent))
            except OSError:
                continue


def _save(path: Path, values: Array) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(values))


def _check_place(path: Path) -> None:
    """Refuses a file that cannot be made where it should go."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ValueError(f"{path} cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: no permission to write in {above}")
