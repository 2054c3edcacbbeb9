"""Small PyTorch models as references: random weights, and errors tensor by tensor."""

from collections.abc import Mapping

import numpy as np
import torch

# Some gradients are zero but for rounding, such as that of a bias in front of a norm: errors are
# relative to a tensor's largest element, but at least to this part of the largest of all.
FLOOR = 1e-3


def randomize(model: torch.nn.Module, seed: int = 0) -> None:
    """Moves every tensor away from its first value, ones and zeros of norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict(keep_vars=True).values():
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator)


def state_dict(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Returns copies of all tensors."""
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def gradients(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Returns the gradient of every tensor of the state dict, zero where nothing flowed to it."""
    return {
        name: np.zeros(tensor.shape, np.float32) if tensor.grad is None else tensor.grad.numpy()
        for name, tensor in model.state_dict(keep_vars=True).items()
    }


def relative_error(ours, expected) -> float:
    """Returns the largest difference over the largest element of `expected`."""
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def assert_close(ours: Mapping, expected: Mapping, tolerance: float) -> float:
    """Asserts that tensors of the same names are equal, and returns the largest relative error."""
    assert ours.keys() == expected.keys()
    floor = FLOOR * max(np.abs(tensor).max() for tensor in expected.values())
    errors = {}
    for name, tensor in expected.items():
        mine = np.asarray(ours[name])
        assert mine.shape == tensor.shape, name
        errors[name] = float(np.abs(mine - tensor).max() / max(np.abs(tensor).max(), floor))
    wrong = {name: error for name, error in errors.items() if not error < tolerance}
    assert not wrong, f"relative errors of {tolerance} and more: {wrong}"
    return max(errors.values())
