"""What is an address and what a path: gs:// is opened, other addresses are refused in words.

`Path("gs://bucket/run")` is the local folder `gs:/bucket/run`, without a word: what is given as an
address must not come to be one.
"""

import os
import re

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


def is_address(place: os.PathLike | str) -> bool:
    """Whether a place is an address of a bucket, gs://BUCKET/NAME."""
    return os.fspath(place).startswith("gs://")


def address_of_any(place: os.PathLike | str) -> bool:
    """Whether a place is an address of any kind, and no path."""
    return bool(_ADDRESS.fullmatch(os.fspath(place))) or is_address(place)


def foreign(place: os.PathLike | str) -> str:
    """Returns why nothing can be read or written at a place, "" for paths and gs://."""
    if is_address(place) or not address_of_any(place):
        return ""
    if os.fspath(place).lower().startswith(("s3://", "s3a://")):
        return (
            f"{place}: of buckets vidpref knows those of Google Cloud Storage (gs://) alone. Copy "
            "it to a path (`aws s3 sync`) or into one of those (`gcloud storage rsync -r`), and "
            "give that (docs/pods.md)."
        )
    return f"{place}: give a path, or an address gs://BUCKET/NAME (docs/pods.md)."
