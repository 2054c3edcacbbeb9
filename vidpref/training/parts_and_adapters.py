"""Chosen parts of a network are trained, and adapters beside what stands still."""

import dataclasses
from pathlib import Path

import jax
from flax.core import meta
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from vidpref.models.lora import Adapted
from vidpref.training.checkpoints import load_params, save_params
from vidpref.training.sharding import abstract_params
from vidpref.training.tuning import ADAPTERS, Adapters, Parts
from vidpref.typing import Array, PyTree

_PARTS, _ADAPTERS, _REFERENCE = "parts", "adapters", "reference"


@dataclasses.dataclass(frozen=True)
class PartsAndAdapters:
    """A `Tuning` that trains {"parts": ..., "adapters": ...}, as VideoReward is trained.

    The parts are not kept a second time beside those in training. The reference, where a loss has
    one, is the network at the start, or parts and adapters that follow.

    Attributes:
        parts: which parameters are trained whole.
        adapters: adapters of other layers of the same network.
        seed: seed of adapters that start fresh beside given parameters.

    Raises:
        ValueError: from `init`, an adapter of a layer that is trained whole.
    """

    parts: Parts
    adapters: Adapters
    seed: int = 0

    @property
    def network(self):
        """Key -> parameters of the whole network, boxed."""
        return self.parts.network

    def init(self, key: Array) -> PyTree:
        first, second = jax.random.split(key)
        found = {_PARTS: self.parts.init(first), _ADAPTERS: self.adapters.init(second)}
        adapted = {(*path[:-1], "kernel") for path in flatten_dict(found[_ADAPTERS])}
        if both := sorted(adapted & set(flatten_dict(found[_PARTS]))):
            raise ValueError(
                f"lora.targets: {'/'.join(both[0])} is among the parts that are trained whole; "
                "adapt other layers, or train fewer parts"
            )
        return found

    def start(self, params: PyTree) -> PyTree | None:
        adapters = self.adapters.start(params)
        if adapters is None:
            fresh = jax.jit(lambda key: meta.unbox(self.adapters.init(key)))
            adapters = fresh(jax.random.key(self.seed))
        return {_PARTS: self.parts.start(_base(params)), _ADAPTERS: adapters}

    def frozen(self, params: PyTree, reference: PyTree | None = None) -> dict[str, PyTree]:
        if reference is not None and reference is not params:
            raise ValueError(
                "with parts and adapters trained, the reference is the network at the start"
            )
        flat = flatten_dict(_base(params))
        trained = flatten_dict(self.parts.start(_base(params)))
        rest = unflatten_dict({path: flat[path] for path in flat if path not in trained})
        found = self.adapters.frozen(rest)
        return found if reference is None else {**found, _REFERENCE: self.start(params)}

    def policy(self, trainable: PyTree, frozen: PyTree, rng: Array | None) -> PyTree:
        adapted = self.adapters.policy(trainable[_ADAPTERS], frozen, rng)
        return adapted.replace(base=self.parts.whole(trainable[_PARTS], adapted.base))

    def reference(self, frozen: PyTree) -> PyTree:
        return self.policy(jax.lax.stop_gradient(frozen[_REFERENCE]), frozen, None)

    def adapted(self, trainable: PyTree, params: PyTree) -> Adapted:
        """Returns the network with the trained parts, and the adapters beside it."""
        base = self.parts.whole(trainable[_PARTS], _base(params))
        return Adapted(base, trainable[_ADAPTERS], self.adapters.spec)

    def whole(self, trainable: PyTree, params: PyTree) -> PyTree:
        adapted = self.adapted(trainable, params)
        return self.adapters.whole(adapted.adapters, adapted.base)

    def save(self, folder: Path, trainable: PyTree, params: PyTree) -> None:
        save_params(folder / ADAPTERS, trainable)

    def load(self, folder: Path, mesh: Mesh) -> PyTree:
        boxed = jax.eval_shape(self.init, jax.random.key(0))
        return load_params(folder / ADAPTERS, abstract_params(boxed, mesh))


def _base(params: PyTree) -> PyTree:
    return params.base if isinstance(params, Adapted) else params
