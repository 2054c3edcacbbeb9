"""Parts of a document that a program writes, between marks; the rest is written by hand.

<!-- measured: NAME -->
...
<!-- end of NAME -->
"""

import re
from collections.abc import Mapping


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Returns the document with the parts between the marks of each block replaced.

    Args:
        text: the document.
        blocks: name of the marks -> Markdown.

    Raises:
        ValueError: the marks of a block are missing, or stand there more than once.
    """
    for name, block in blocks.items():
        begin, end = _marks(name)
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        found = len(pattern.findall(text))
        if found != 1:
            raise ValueError(f"the marks {begin} ... {end} stand there {found} times, and not once")
        before, after = pattern.split(text)
        text = f"{before}{begin}\n{block.strip()}\n{end}{after}"
    return text


def empty(names: list[str]) -> str:
    """Returns a document of the marks alone."""
    return "\n\n".join("\n".join(_marks(name)) for name in names) + "\n"


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
