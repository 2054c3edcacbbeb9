"""One of two processes that encode the same clips together.

`python encode_in_two_processes.py RANK PORT CLIPS.csv OUT`
"""

import sys
from pathlib import Path

import flax.linen as nn
import pandas as pd

from tests.two_processes import joined
from vidpref.config.fields import build
from vidpref.config.schema import Data
from vidpref.generation.autoencoder import Decoder
from vidpref.stages.encode import encode_clips
from vidpref.training.sharding import make_mesh

BATCH = 8


class Brightness(nn.Module):
    """Halves a clip's size and keeps its first channel."""

    in_channels: int = 3
    space_ratio: int = 2

    def encode(self, clips):
        return clips[:, :, ::2, ::2, :1]


def encode(clips: pd.DataFrame, out: Path) -> None:
    encode_clips(
        out,
        clips,
        Decoder(Brightness()),
        {},
        build(Data(frames=3, height=16, width=32, fps=4.0, max_bad_fraction=0.2)),
        batch_size=BATCH,
        images=None,
        mesh=make_mesh({"data": -1}),
    )


if __name__ == "__main__":
    rank, port = int(sys.argv[1]), int(sys.argv[2])
    with joined(rank, port):
        encode(pd.read_csv(sys.argv[3]), Path(sys.argv[4]))
