"""The device that attention is traced for: one that is there, or that a compiler was told of."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Target:
    """A device, as far as the choice of a kernel depends on it.

    Attributes:
        kind: such as "cpu", "TPU v5 lite" or "NVIDIA H200".
        capability: CUDA compute capability; None of what is no NVIDIA GPU.
    """

    kind: str
    capability: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.capability is None:
            return self.kind
        return f"{self.kind} (compute capability {'.'.join(map(str, self.capability))})"

    @classmethod
    def of(cls, device: Any) -> "Target":
        """Returns the target of a jax device, which may be of a described topology."""
        # AMD's are names such as gfx942
        version = re.fullmatch(r"(\d+)\.(\d+)", str(getattr(device, "compute_capability", "")))
        return cls(device.device_kind, version and (int(version[1]), int(version[2])))


_TARGET: ContextVar[Target | None] = ContextVar("target", default=None)


@contextlib.contextmanager
def traced_for(device: Any) -> Iterator[None]:
    """Context for tracing what is compiled for devices like this one."""
    token = _TARGET.set(Target.of(device))
    try:
        yield
    finally:
        _TARGET.reset(token)


def target() -> Target:
    """Returns the target of the innermost `traced_for`, without one the first device."""
    return _TARGET.get() or Target.of(jax.devices()[0])
