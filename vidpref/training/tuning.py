"""What of a network is trained: everything, adapters beside it (LoRA), or chosen parts."""

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vidpref.config.nearest import nearest
from vidpref.models.frozen import Keeping, check_stored
from vidpref.models.lora import Adapted, LoRA, merge
from vidpref.training.checkpoints import load_params, save_params
from vidpref.training.sharding import abstract_params
from vidpref.typing import Array, PyTree

# Folders in that of a stage: the whole network, or what was trained beside it.
PARAMS, ADAPTERS = "params", "adapters"

# In `frozen`: the network that stays as it is, and a reference that is another whole network.
_BASE, _OTHER = "base", "whole_reference"


@runtime_checkable
class Tuning(Protocol):
    """What of a network is trained, and where a loss finds the policy and its reference.

    Nothing here knows what the network does. `policy` and `reference` give what `apply_network`
    takes: parameters, or `Adapted`.

    Attributes:
        network: key -> parameters of the whole network, boxed with their logical names.
    """

    network: Callable[[Array], PyTree]

    def init(self, key: Array) -> PyTree:
        """Returns fresh trainable parameters, boxed with their logical names."""
        ...

    def start(self, params: PyTree) -> PyTree | None:
        """Returns the trainable parameters of a network to go on from; None for fresh ones."""
        ...

    def frozen(self, params: PyTree, reference: PyTree | None = None) -> dict[str, PyTree]:
        """Returns what a loss needs besides the trainable parameters; abstract from abstract.

        Its entry "reference" has the form of the trainable parameters: there the training step
        puts a reference that follows the policy.

        Args:
            params: parameters of the whole network at the start.
            reference: those of a reference that stands still; `params` themselves cost nothing
                but for `Everything`. None where the loss has no reference, or one that follows.
        """
        ...

    def policy(self, trainable: PyTree, frozen: PyTree, rng: Array | None) -> PyTree:
        """Returns the policy in training; `rng` is that of its dropout, None for none."""
        ...

    def reference(self, frozen: PyTree) -> PyTree:
        """Returns the reference policy."""
        ...

    def whole(self, trainable: PyTree, params: PyTree) -> PyTree:
        """Returns parameters of the whole network, where `params` are those at the start."""
        ...

    def save(self, folder: Path, trainable: PyTree, params: PyTree) -> None:
        """Writes what was trained to the folder of a stage; `params` as for `whole`."""
        ...

    def load(self, folder: Path, mesh: Mesh) -> PyTree:
        """Returns the trainable parameters that `save` wrote, on a mesh."""
        ...


def make_tuning(
    network: Callable[[Array], PyTree], config: ConfigDict, adapters: LoRA | None = None
) -> Tuning:
    """Returns what a section of a config tunes.

    Args:
        network: key -> parameters of the whole network, boxed.
        config: a section with `lora` (see `lora_spec`) and `parts`: regular expressions
            searched in the paths of parameters, such as "^head/"; () for all.
        adapters: those that are trained in the place of what `lora` asks for.

    Raises:
        ValueError: a setting that cannot work, or adapters and parts at once. Targets and parts
            that match nothing are found by `init`.
    """
    spec, parts = adapters or lora_spec(config), tuple(config.parts)
    if spec is not None and parts:
        raise ValueError(
            f"config.align.parts={parts} with config.align.lora.rank={spec.rank}: either chosen "
            "parts are trained or adapters; set lora.rank=0, or parts=()"
        )
    if spec is not None:
        return Adapters(network, spec, config.lora.base)
    return Parts(network, parts) if parts else Everything(network)


def lora_spec(config: ConfigDict) -> LoRA | None:
    """Returns the adapters that a section's `lora` asks for; None where its rank is 0.

    Raises:
        ValueError: a setting that cannot work; the message names it.
    """
    section = config.lora
    if not section.rank:
        return None
    return LoRA(
        rank=section.rank,
        alpha=float(section.alpha),
        targets=tuple(section.targets),
        dropout=float(section.dropout),
        zero=section.zero,
    )


@dataclasses.dataclass(frozen=True)
class Everything:
    """Every parameter is trained; the reference is a network of its own."""

    network: Callable[[Array], PyTree]

    def init(self, key: Array) -> PyTree:
        return self.network(key)

    def start(self, params: PyTree) -> PyTree | None:
        return params

    def frozen(self, params: PyTree, reference: PyTree | None = None) -> dict[str, PyTree]:
        return {} if reference is None else {"reference": reference}

    def policy(self, trainable: PyTree, frozen: PyTree, rng: Array | None) -> PyTree:
        return trainable

    def reference(self, frozen: PyTree) -> PyTree:
        if "reference" not in frozen:
            raise ValueError(
                "the loss is held to a reference policy, and none was given: all is trained, so "
                "`frozen` must hold another network, as of `Everything.frozen(params, reference)`"
            )
        return frozen["reference"]

    def whole(self, trainable: PyTree, params: PyTree) -> PyTree:
        return trainable

    def save(self, folder: Path, trainable: PyTree, params: PyTree) -> None:
        save_params(folder / PARAMS, trainable)

    def load(self, folder: Path, mesh: Mesh) -> PyTree:
        return load_params(folder / PARAMS, abstract_params(_shapes(self.init), mesh))


@dataclasses.dataclass(frozen=True)
class Adapters:
    """Adapters are trained; the reference is the base without them, or with those that follow.

    The network to start from may be `Adapted`: then its adapters are trained on, and the reference
    is the base with them as they were.

    Attributes:
        network: key -> parameters of the whole network, boxed.
        spec: the adapters.
        base: how base and reference are kept, see `Keeping`.
    """

    network: Callable[[Array], PyTree]
    spec: LoRA
    base: str = "float32"

    @functools.cached_property
    def keeping(self) -> Keeping:
        """How base and reference are kept."""
        return Keeping(self.network, self.base)

    @functools.cached_property
    def _boxed(self) -> PyTree:
        return _shapes(self.network)

    def init(self, key: Array) -> PyTree:
        return self.spec.init(key, self._boxed)

    def start(self, params: PyTree) -> PyTree | None:
        return params.adapters if isinstance(params, Adapted) else None

    def frozen(self, params: PyTree, reference: PyTree | None = None) -> dict[str, PyTree]:
        base = params.base if isinstance(params, Adapted) else params
        if reference is not params:
            beside = _beside(base, reference)
        elif isinstance(params, Adapted):
            beside = {_BASE: base, "reference": params.adapters}
        else:
            beside = {_BASE: base}
        whole = [name for name in (_BASE, _OTHER) if name in beside]
        return beside | {name: self.keeping.all(beside[name]) for name in whole}

    def policy(self, trainable: PyTree, frozen: PyTree, rng: Array | None) -> PyTree:
        base = jax.lax.stop_gradient(frozen[_BASE])
        return Adapted(base, trainable, self.spec, rng if self.spec.dropout else None)

    def reference(self, frozen: PyTree) -> PyTree:
        if _OTHER in frozen:
            return frozen[_OTHER]
        return Adapted(frozen[_BASE], frozen.get("reference"), self.spec)

    def whole(self, trainable: PyTree, params: PyTree) -> PyTree:
        base = params.base if isinstance(params, Adapted) else params
        check_stored(base, self._boxed)
        return jax.jit(merge, static_argnames="spec")(base, trainable, spec=self.spec)

    def save(self, folder: Path, trainable: PyTree, params: PyTree) -> None:
        save_params(folder / ADAPTERS, trainable)

    def load(self, folder: Path, mesh: Mesh) -> PyTree:
        return load_params(folder / ADAPTERS, abstract_params(_shapes(self.init), mesh))

    def place(self, adapters: PyTree, mesh: Mesh) -> PyTree:
        """Returns adapters of the host on a mesh."""
        wanted = abstract_params(_shapes(self.init), mesh)
        return jax.tree.map(lambda x, to: jax.device_put(x, to.sharding), adapters, wanted)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parameters that a pattern matches are trained, and the whole network is saved.

    The reference is the network at the start, or with parts that follow.

    Attributes:
        network: key -> parameters of the whole network, boxed.
        patterns: regular expressions searched in the paths of parameters.
    """

    network: Callable[[Array], PyTree]
    patterns: tuple[str, ...]

    @functools.cached_property
    def _paths(self) -> frozenset[tuple[str, ...]]:
        paths = {"/".join(path): path for path in flatten_dict(_shapes(self.network))}
        chosen = set()
        for pattern in self.patterns:
            try:
                matched = {name for name in paths if re.search(pattern, name)}
            except re.error as error:
                raise ValueError(f"parts: {pattern!r} is no regular expression: {error}") from error
            if not matched:
                hint = nearest(pattern, paths, cutoff=0.3)
                raise ValueError(f"parts: {pattern!r} matches no parameter; {hint}")
            chosen |= matched
        return frozenset(paths[name] for name in chosen)

    def init(self, key: Array) -> PyTree:
        return self._part(self.network(key))

    def start(self, params: PyTree) -> PyTree | None:
        return self._part(params)

    def frozen(self, params: PyTree, reference: PyTree | None = None) -> dict[str, PyTree]:
        return _beside(params, reference)

    def policy(self, trainable: PyTree, frozen: PyTree, rng: Array | None) -> PyTree:
        return self.whole(trainable, jax.lax.stop_gradient(frozen[_BASE]))

    def reference(self, frozen: PyTree) -> PyTree:
        if _OTHER in frozen:
            return frozen[_OTHER]
        return self.whole(frozen.get("reference", {}), frozen[_BASE])

    def whole(self, trainable: PyTree, params: PyTree) -> PyTree:
        return unflatten_dict(flatten_dict(params) | flatten_dict(trainable))

    def save(self, folder: Path, trainable: PyTree, params: PyTree) -> None:
        save_params(folder / PARAMS, self.whole(trainable, params))

    def load(self, folder: Path, mesh: Mesh) -> PyTree:
        whole = abstract_params(_shapes(self.network), mesh)
        return self._part(load_params(folder / PARAMS, whole))

    def _part(self, params: PyTree) -> PyTree:
        flat = flatten_dict(params)
        return unflatten_dict({path: flat[path] for path in flat if path in self._paths})


def _beside(params: PyTree, reference: PyTree | None) -> dict[str, PyTree]:
    """The base, and a reference that is not the base itself."""
    other = {} if reference is None or reference is params else {_OTHER: reference}
    return {_BASE: params, **other}


def _shapes(init: Callable[[Array], PyTree]) -> PyTree:
    return jax.eval_shape(init, jax.random.key(0))
