"""The hint of an error about an unknown name."""

import difflib
import textwrap
from collections.abc import Iterable

_LISTED = 1000  # characters: a hint is read in a terminal


def nearest(word: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.5) -> str:
    """Returns "did you mean a or b?", or "known: a, b, c" where no known name is like `word`.

    A name is also like the dotted names that end in it: `rank` is like `align.lora.rank`.

    Args:
        word: name that is not known.
        known: names that are, in the order in which they are listed.
        most: number of names suggested, at most.
        cutoff: least likeness of a suggestion, in [0, 1], as of `difflib.get_close_matches`.
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=most, cutoff=cutoff)
    if not close:
        last = word.rsplit(".", 1)[-1]
        close = [name for name in known if last and name.rsplit(".", 1)[-1] == last][:most]
    if close:
        return f"did you mean {' or '.join(close)}?"
    listed = ", ".join(known) or "none"
    return "known: " + textwrap.shorten(listed, _LISTED, placeholder=" ...")
