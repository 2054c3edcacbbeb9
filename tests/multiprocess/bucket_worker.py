"""One of two hosts, each with a disk of its own, whose work directory is in a bucket.

`python bucket_worker.py RANK PORT ADDRESS CACHES STOP`: runs three stages, each of which reads what
both hosts wrote in the one before. With STOP=1 all hosts stop in the second, where host 1 alone has
written something.
"""

import functools
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import tiny_training as tiny

from tests.two_processes import joined
from vidpref.coordination.agreeing import barrier, decided
from vidpref.datasets.text import TextCache, WordTable
from vidpref.files import write_table
from vidpref.runs.graph import Stage, run_stage
from vidpref.runs.workdir import locked
from vidpref.stages.row_files import RowFiles
from vidpref.storage import mirror
from vidpref.training.checkpoints import load_params, save_params
from vidpref.training.loop import fit
from vidpref.training.metrics import read_metrics
from vidpref.training.sharding import abstract_params, make_mesh

PROMPTS = ["a ball rolls", "a cube", "two cones"]
ROWS, STEPS = 8, 4


class Stopped(Exception):
    """All hosts were asked to stop."""


def write_texts(folder: Path) -> None:
    texts = TextCache.build(folder, WordTable(4, 8), PROMPTS)
    assert texts.prompts == PROMPTS


def write_rows(texts: Path, rank: int, stop: bool, folder: Path) -> dict[str, int]:
    words = TextCache(mirror.pull(texts))
    files, written = RowFiles(folder, "rows", ".parquet", ROWS), []
    there = files.there()
    assert there == ([] if stop else [range(4, 6)])
    missing = files.missing(there)
    for part in (range(4 * rank + start, 4 * rank + start + 2) for start in (0, 2)):
        if stop and (rank, part.start) != (1, 4):
            continue
        if missing[part.start]:
            values = [float(words[PROMPTS[n % 3]][0].sum()) + n for n in part]
            write_table(files.path(part), pd.DataFrame({"value": values}))
            written.append(part)
    barrier("rows are written")
    if stop:
        raise Stopped
    parts = files.complete(there, written)

    def join() -> None:  # host 0, of what both wrote
        found = pd.concat([pd.read_parquet(files.path(part)) for part in parts])
        write_table(folder / "all.parquet", found)

    decided("rows", join)
    return {files.path(part).name: len(part) for part in parts}


def train(rows: Path, rank: int, folder: Path) -> None:
    values = pd.read_parquet(mirror.pull(rows) / "all.parquet")["value"]
    words = WordTable(4, 8).encode(PROMPTS)[0].sum(axis=(1, 2))
    np.testing.assert_allclose(values, [words[n % 3] + n for n in range(ROWS)], rtol=1e-6)
    plan = tiny.plan(make_mesh({"data": -1, "fsdp": 2}), settings(), tiny.plain_loss)
    state = fit(plan, tiny.batches(shard=rank, shards=2), folder)
    save_params(folder / "params", state.params)


def settings():
    return tiny.config(steps=STEPS, checkpoint_every=2)


def main(rank: int, address: str, stop: bool) -> None:
    workdir = mirror.open_folder(address)
    with locked(workdir):
        texts = Stage("text", write_texts, {})
        body = functools.partial(write_rows, workdir / texts.folder, rank, stop)
        rows = Stage("rows", body, {}, {"texts": texts})
        body = functools.partial(train, workdir / rows.folder, rank)
        for stage in (texts, rows, Stage("train", body, {}, {"rows": rows})):
            done = run_stage(stage, workdir, print)
    assert [line["step"] for line in read_metrics(mirror.pull(done.path))] == [1, 2, 3, 4]
    shapes = jax.eval_shape(tiny.init, jax.random.key(0))
    load_params(done.path / "params", abstract_params(shapes, make_mesh({"data": -1})))


if __name__ == "__main__":
    rank, port, stop = int(sys.argv[1]), int(sys.argv[2]), sys.argv[5] == "1"
    os.environ["VIDPREF_CACHE"] = f"{sys.argv[4]}/{rank}"
    with joined(rank, port):
        try:
            main(rank, sys.argv[3], stop)
        except Stopped:
            assert stop
