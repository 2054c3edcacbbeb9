"""Draws clips: a generator, and what clips go through after it, on the rows of many scenes."""

import contextlib
import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh

from vidpref.datasets.scenes import Scene
from vidpref.generation.scene_conditions import SceneConditions
from vidpref.pixels import check_finite, not_finite, to_bytes
from vidpref.training.processes import Share, padded, share_of
from vidpref.training.sharding import activation_rules, batch_sharding
from vidpref.typing import Array, PyTree

Row = tuple[Scene, int]  # a clip to draw: its scene and its number


@runtime_checkable
class DrawsClips(Protocol):
    """A network of a cascade: a `Generator`, guided or not, or a `Decoder`.

    Attributes:
        output: what its clips are called in records.
        steps: denoising steps of a clip.
    """

    output: str
    steps: int

    def sample(self, params: PyTree, keys: Array, batch: dict) -> Array:
        """Draws one clip [t, h, w, c] a row, in [-1, 1] or a latent."""
        ...


@dataclasses.dataclass(frozen=True)
class CascadeNetwork:
    """A network of a cascade, and the way to its parameters.

    Attributes:
        network: what draws clips, or makes others of clips.
        load: returns the network's parameters, placed on the devices.
    """

    network: DrawsClips
    load: Callable[[], PyTree]


@dataclasses.dataclass(frozen=True)
class Cascade:
    """What clips come from, and what they go through after that.

    Attributes:
        first: the generator, guided or not.
        second: the decoder of its latents, or a super-resolution generator whose low-resolution
            input is the clip before it; None where its clips are what is looked at.
    """

    first: CascadeNetwork
    second: CascadeNetwork | None = None

    @property
    def members(self) -> tuple[CascadeNetwork, ...]:
        """The networks in the order in which clips go through them."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def networks(self) -> tuple[DrawsClips, ...]:
        """The networks without their parameters, in order."""
        return tuple(member.network for member in self.members)

    def with_params(self, params: PyTree) -> "Cascade":
        """Returns the cascade whose generator has parameters that lie on the devices already."""
        return dataclasses.replace(self, first=CascadeNetwork(self.first.network, lambda: params))

    @contextlib.contextmanager
    def loaded(self) -> Iterator[list[PyTree]]:
        """Loads every network; yields the parameters, in a list that is emptied at the end.

        So they leave the devices unless something else holds them.
        """
        params = []
        try:
            params += (member.load() for member in self.members)
            yield params
        finally:
            params.clear()


class Sampler:
    """Draws clips for (scene, number) rows, padded to one compiled batch shape.

    The noise of a clip depends on the seed, the scene and the clip's number alone, so two policies
    sampled with one seed can be compared clip by clip.

    Args:
        networks: networks of a `Cascade`, in their order.
        seen: what the generator sees of a scene.
        batch_size: clips in one call, over all devices.
        mesh: devices; clips are divided over its data and fsdp axes.
    """

    def __init__(
        self,
        networks: Sequence[DrawsClips],
        seen: SceneConditions,
        *,
        batch_size: int,
        mesh: Mesh,
    ):
        self.batch_size = batch_size
        self._seen = seen
        self._sharding = batch_sharding(mesh)
        self._networks = networks
        self._draw = [drawing(network, mesh) for network in networks]

    def __call__(
        self,
        params: Sequence[PyTree],
        rows: Sequence[Row],
        seed: int,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[list[Row], dict[str, np.ndarray]]:
        """Returns the rows that this process owns and, by its name, what each network drew.

        Pixels are uint8. The last network's clips come last; they are what is looked at.

        Args:
            params: parameters of each network, see `Cascade.loaded`.
            rows: clips to draw, at most `batch_size`.
            seed: seed of the noise.
            given: more of the batch, one row a clip or one for all, such as `noise`.

        Raises:
            ValueError: a network drew NaN or infinite values.
        """
        share = self.share
        full = padded(rows, self.batch_size)
        fed = [full[i] for i in share.held]
        conditions = [self._seen(scene) for scene, _ in fed]
        batch = {name: np.stack([c[name] for c in conditions]) for name in conditions[0]}
        for name, values in (given or {}).items():
            batch[name] = values[np.minimum(share.held, len(values) - 1)]
        keys, batch = share.place((_keys(fed, seed), batch))
        mine = [rows[i] for i in share.owned if i < len(rows)]
        names = [f"{scene.id}/{number}" for scene, number in mine]
        drawn, bad = {}, {}
        for network, draw, own in zip(self._networks, self._draw, params, strict=True):
            clips, bad[network.output] = draw(own, keys, batch)
            drawn[network.output] = clips
            batch = {"text": batch["text"], "text_mask": batch["text_mask"]}
            batch["latent" if network.output == "latent" else "low_res"] = clips
        for name, counts in bad.items():
            check_finite(share.read(counts)[: len(mine)], names, f"sampling of {name!r}")
        return mine, {name: share.read(clips)[: len(mine)] for name, clips in drawn.items()}

    @property
    def share(self) -> Share:
        """Which rows of a batch this process feeds and answers for."""
        return share_of(self._sharding, self.batch_size)


def chunked(scenes: Sequence[Scene], per_scene: int, batch_size: int) -> list[list[Row]]:
    """Returns the rows of `per_scene` clips a scene, in chunks of `batch_size`."""
    rows = [(scene, i) for scene in scenes for i in range(per_scene)]
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]


def drawing(network: DrawsClips, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the compiled program of a network.

    It is `(params, keys uint32 [b, 2], batch) -> (clips, how many of each one's values are NaN or
    infinite [b])`.
    """
    return jax.jit(functools.partial(_draw, network, mesh), out_shardings=batch_sharding(mesh))


def _draw(network: DrawsClips, mesh: Mesh, params: PyTree, keys: Array, batch: dict) -> tuple:
    with activation_rules(mesh):
        clips = network.sample(params, jax.random.wrap_key_data(keys), batch)
    bad = not_finite(clips)
    return (clips if network.output == "latent" else to_bytes(clips)), bad


def _keys(rows: Sequence[Row], seed: int) -> np.ndarray:
    names = np.array([zlib.crc32(scene.id.encode()) for scene, _ in rows], np.uint32)
    samples = np.array([i for _, i in rows], np.uint32)

    def key(name: Array, sample: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), name), sample)

    return np.asarray(jax.random.key_data(jax.vmap(key)(names, samples)))
