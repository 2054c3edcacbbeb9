"""Text files that users bring, read so that a wrong encoding is named and not guessed."""

import os
from pathlib import Path

from vidpref.downloads import stand_in


def read_text(path: str | os.PathLike) -> str:
    r"""Returns the text of a UTF-8 file, its line breaks as "\n".

    The mark that spreadsheets put in front (BOM) is left out.

    Raises:
        ValueError: no such file, another encoding, or a NUL byte, which no text has; names file and
            line.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder, where a file is wanted" if path.is_dir() else "no such file"
        raise ValueError(f"{path}: {what}")
    data = path.read_bytes()
    if data and (what := stand_in(data[:512], path)):
        raise ValueError(what)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: not UTF-8 but UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 ({error}); save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"{path}, line {line}: a NUL byte; the file is damaged, or UTF-16: save it as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")
