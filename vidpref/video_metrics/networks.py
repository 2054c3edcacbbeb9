"""A network on the devices of a process: rows through it, some of them at a time."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from vidpref.training.sharding import (
    abstract_params,
    activation_rules,
    batch_sharding,
    filled_up,
    make_mesh,
    replicated,
)
from vidpref.typing import Array, PyTree


@runtime_checkable
class Weights(Protocol):
    """Weights of a network in files.

    Attributes:
        module: the network.
        abstract: shapes of its parameters, boxed with their logical names.
    """

    module: Any
    abstract: PyTree

    def load(self, target: PyTree) -> PyTree:
        """Returns the parameters, placed as `target` says."""
        ...


class Network:
    """A function of parameters and rows, compiled once for every shape of a row.

    Args:
        weights: the network's.
        function: (parameters, rows [b, ...]) -> one array [b, ...].
        batch_size: rows at once, over the devices of the process, or as many of them as rows.
    """

    def __init__(
        self, weights: Weights, function: Callable[[PyTree, Array], Array], batch_size: int
    ):
        self._mesh = make_mesh({"fsdp": -1}, jax.local_devices()[:batch_size])
        self._batch_size = filled_up(batch_size, self._mesh)
        self._params = weights.load(abstract_params(weights.abstract, self._mesh))

        def program(params: PyTree, rows: Array) -> Array:
            # float32 is meant: accelerators would round products, and distances are small
            with activation_rules(self._mesh), jax.default_matmul_precision("float32"):
                return function(params, rows)

        self._program = jax.jit(program, out_shardings=replicated(self._mesh))

    def __call__(self, rows: Array) -> np.ndarray:
        """Returns the function's values of n rows of one shape, n from 1 on."""
        found = []
        for start in range(0, len(rows), self._batch_size):
            part = np.asarray(rows[start : start + self._batch_size])
            missing = self._batch_size - len(part)  # the last part, which shares the program
            full = np.concatenate([part, part[:1].repeat(missing, axis=0)])
            placed = jax.device_put(full, batch_sharding(self._mesh))
            found.append(np.asarray(self._program(self._params, placed))[: len(part)])
        return np.concatenate(found)

    def of_several(self, rows: Sequence[Array]) -> list[np.ndarray]:
        """Returns the values of rows of any shapes, those of one shape together."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, row in enumerate(rows):
            by_shape.setdefault(row.shape, []).append(number)
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        for numbers in by_shape.values():
            values = self(np.stack([rows[n] for n in numbers]))
            for number, value in zip(numbers, values, strict=True):
                found[number] = value
        return found
