"""Small configs of CogVideoX, and one of its networks beside its original."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
import torch

from tests.models import torch_parity as parity
from vidpref.interop.table import Table, to_params, to_tensors

TOLERANCE = 1e-4
TRANSFORMER = {
    "num_attention_heads": 3,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 12,
    "text_embed_dim": 10,
    "num_layers": 2,
    "sample_height": 8,
    "sample_width": 12,
    "sample_frames": 9,
    "max_text_seq_length": 5,
}
ROTARY = {"use_rotary_positional_embeddings": True}
TRANSFORMERS = {
    "2b": {},
    "5b": ROTARY,
    "5b_i2v": {**ROTARY, "use_learned_positional_embeddings": True, "in_channels": 8},
    "no_biases": {"attention_bias": False, "patch_bias": False, "norm_eps": 1e-3},
}
VAE = {
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("CogVideoXDownBlock3D",) * 3,
    "up_block_types": ("CogVideoXUpBlock3D",) * 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.7,
    "norm_eps": 1e-5,
}


def check_parity(
    original: torch.nn.Module,
    run_original: Callable,
    run_ours: Callable,
    table: Table,
    inputs: Sequence[np.ndarray],
) -> str:
    """Compares outputs, and gradients of their random projection to inputs and parameters.

    Args:
        original: the tensors of its state dict are the parameters of both, its buffers too.
        run_original: `(*inputs) -> output`, channels last.
        run_ours: `(params, *inputs) -> output`.
        table: of the model.
        inputs: float arrays.

    Returns:
        The largest relative errors, in words.
    """
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    for tensor in original.state_dict(keep_vars=True).values():
        tensor.requires_grad_(True)
        tensor.grad = None
    expected = run_original(*leaves)
    probe = np.random.default_rng(7).normal(size=expected.shape).astype(np.float32)
    (expected * torch.from_numpy(probe)).sum().backward()

    # these networks run once: compiling is nearly all of the time
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def ours(params, inputs):
        def project(params, inputs):
            out = run_ours(params, *inputs)
            return (out * probe).sum(), out

        return jax.value_and_grad(project, argnums=(0, 1), has_aux=True)(params, inputs)

    params = to_params(parity.state_dict(original), table)
    (_, out), (of_params, of_inputs) = ours(params, tuple(inputs))
    pairs = {
        "forward": ({"output": out}, {"output": expected.detach().numpy()}),
        "inputs": (dict(enumerate(of_inputs)), {i: x.grad.numpy() for i, x in enumerate(leaves)}),
        "weights": (to_tensors(of_params, table), parity.gradients(original)),
    }
    errors = {name: parity.assert_close(*pair, TOLERANCE) for name, pair in pairs.items()}
    return " ".join(f"{name} {error:.1e}" for name, error in errors.items())
