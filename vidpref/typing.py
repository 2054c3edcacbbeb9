"""Array types of the public signatures: `Float[Array, "b t h w c"]`, checked in the tests."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Key, UInt8

Array = jax.Array | np.ndarray
PyTree = Any

__all__ = ["Array", "Bool", "Float", "Int", "Key", "PyTree", "UInt8"]
