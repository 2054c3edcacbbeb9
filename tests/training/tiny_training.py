"""A small scanned network with logical names, its loss, batches and config, for these tests.

As a program it trains: `python tiny_training.py WORKDIR STEPS`; tests kill it.
"""

import sys

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np

from vidpref.config.fields import build
from vidpref.config.training import AlignTrain, Optimizer

FEATURES = 8
WIDTH = 16


def dense(features, *names):
    kernel = nn.with_logical_partitioning(nn.initializers.lecun_normal(), names)
    bias = nn.with_logical_partitioning(nn.initializers.zeros, names[1:])
    return nn.Dense(features, kernel_init=kernel, bias_init=bias)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.tanh(dense(2 * WIDTH, "in", "heads")(x))
        return x + dense(WIDTH, "heads", "out")(h), None


class TinyNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = dense(WIDTH, "in", "out")(x)
        blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, _ = blocks(name="blocks")(x)
        return dense(FEATURES, "in", "out")(x)


def init(key):
    return TinyNet().init(key, jnp.zeros((1, FEATURES)))["params"]


def loss_fn(params, frozen, batch, rng):
    """Mean squared error to a target with fresh noise; `frozen` is not used."""
    noise = 0.1 * jax.random.normal(rng, batch["y"].shape)
    return plain_loss(params, frozen, {"x": batch["x"], "y": batch["y"] + noise}, rng)


def plain_loss(params, frozen, batch, rng):
    error = TinyNet().apply({"params": params}, batch["x"]) - batch["y"]
    loss = jnp.mean(error**2)
    return loss, {"error": jnp.mean(jnp.abs(error))}


def rows(n=256):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, FEATURES)).astype(np.float32)
    return x, np.sin(x @ rng.normal(size=(FEATURES, FEATURES))).astype(np.float32)


def batches(batch_size=16, shard=0, shards=1):
    x, y = rows()
    data = grain.MapDataset.range(len(x)).seed(1).shuffle().repeat()
    data = data.slice(slice(shard, None, shards)) if shards > 1 else data
    data = data.map(lambda i: {"x": x[i], "y": y[i]}).batch(batch_size // shards)
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def one_batch(batch_size=16):
    x, y = rows(batch_size)
    return {"x": x, "y": y}


def config(optimizer=None, **fields):
    adam = {"learning_rate": 1e-2, "warmup_steps": 2, "decay": "cosine"}
    values = {
        "steps": 12,
        "batch_size": 16,
        "ema_decay": 0.9,
        "log_every": 1,
        "checkpoint_every": 0,
        "keep_last": 2,
    }
    chosen = Optimizer(**adam | (optimizer or {}))
    return build(AlignTrain(**values | fields, optimizer=chosen))


def plan(mesh, settings, loss_fn=loss_fn, **options):
    """The plan that trains all of the network."""
    from vidpref.training.plan import make_plan
    from vidpref.training.tuning import Everything

    return make_plan(Everything(init), loss_fn, settings, mesh, **options)


def main(workdir, steps):
    from vidpref.training.loop import fit
    from vidpref.training.sharding import make_mesh

    mesh = make_mesh({"data": -1, "fsdp": 2})
    settings = config(steps=int(steps), checkpoint_every=20)
    return fit(plan(mesh, settings), batches(), workdir)


if __name__ == "__main__":
    main(*sys.argv[1:])
