"""Random weights for deep networks with stored norms, such that their outputs stay of one size."""

import torch


def randomize_normed(model: torch.nn.Module, seed: int = 0) -> None:
    """He's kernels, and norms whose statistics differ a little from nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("num_batches_tracked"):
                continue
            if tensor.ndim > 1:
                tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
            elif name.endswith("running_var"):
                tensor.copy_((1 + 0.2 * noise).abs())
            elif name.endswith("weight"):
                tensor.copy_(1 + 0.1 * noise)
            else:
                tensor.copy_(0.1 * noise)
