"""One of two hosts, each with a disk of its own, that encode the clips of a list in a bucket.

`python bring_in_two_processes.py RANK PORT ADDRESS CACHES OUT`
"""

import os
import sys
from pathlib import Path

from tests.stages.encode_in_two_processes import encode
from tests.two_processes import joined
from vidpref.datasets.preferences import read_preferences
from vidpref.storage.copies import here

if __name__ == "__main__":
    rank, port, address, caches, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    os.environ["VIDPREF_CACHE"] = f"{caches}/{rank}"
    with joined(rank, port):
        encode(read_preferences(here(f"{address}/pairs.csv")).clips, Path(out))
