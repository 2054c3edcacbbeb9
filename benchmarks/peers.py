"""Wan2.1's transformer in PyTorch, for benchmarks: its weights as ours, and its DPO step."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig

from vidpref.interop.table import Rule, Table, to_params
from vidpref.models.wan.network import Wan
from vidpref.typing import PyTree

# the same layers in both languages
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_WIDE = re.compile("lora_|time_embedder")  # diffusers keeps the latter in float32 too
_OURS = ("attention", "remat", "unroll", "dtype", "parent", "name")


def like(module: Wan) -> WanTransformer3DModel:
    """Returns diffusers' network of the same sizes, with random weights."""
    fields = {f: getattr(module, f) for f in module.__dataclass_fields__ if f not in _OURS}
    return WanTransformer3DModel(**fields)


def perturb(model: torch.nn.Module) -> None:
    """Moves weights, so that a policy is not its reference, whose loss is log 2 in any network."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * parameter.std(correction=0) * torch.randn_like(parameter)


def adapt(model: WanTransformer3DModel, rank: int, alpha: float) -> None:
    """Freezes a network, and adds adapters to attention, of which no factor starts at zero."""
    model.requires_grad_(False)
    model.add_adapter(
        LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=list(ATTENTION), init_lora_weights=False
        )
    )


def adapters_of(model: torch.nn.Module, table: Table) -> PyTree:
    """Returns the adapters that PEFT made, as ours.

    Args:
        model: the network that they are in.
        table: of its weights.
    """
    tensors = {k: v.cpu().numpy() for k, v in model.state_dict().items() if "lora_" in k}
    rules = []
    for rule in table:
        for ours, peft in (("a", "lora_A.default.weight"), ("b", "lora_B.default.weight")):
            name = rule.torch.removesuffix("weight") + peft
            if name.replace("{i}", "0") in tensors:
                rules.append(Rule(name, rule.ours.removesuffix("kernel") + ours, "linear"))
    return to_params(tensors, tuple(rules))


def keep_in_half(model: torch.nn.Module) -> None:
    """Keeps the weights that autocast casts in bfloat16, but for adapters and the time's."""
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv3d) and not _WIDE.search(name):
            layer.to(torch.bfloat16)


class DPO:
    """Flow-DPO on one pair, as PyTorch's users write it; parameters are those of `policy`.

    Args:
        policy: what is trained.
        reference: stands still.
        batch: x_tau, clips and eps [2, c, t, h, w] (the winner first), tau [2], text [2, l, d], on
            the device.
        beta: strength of the pull towards the reference.
        rate: learning rate of Adam.
        half: whether autocast computes in bfloat16.
    """

    def __init__(
        self,
        policy: torch.nn.Module,
        reference: torch.nn.Module,
        batch: Mapping[str, torch.Tensor],
        *,
        beta: float,
        rate: float,
        half: bool,
    ):
        self.policy, self.reference, self._beta = policy, reference, beta
        self._inputs = batch["x_tau"], batch["tau"] * 1000, batch["text"]
        self._target = batch["eps"] - batch["clips"]
        self._half = half
        self._trained = [p for p in policy.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(self._trained, lr=rate, fused=True)

    def gradient(
        self, models: Sequence[Callable] | None = None, *, packed: bool
    ) -> dict[str, float]:
        """Adds the gradient of the loss; returns that and the gradient's norm.

        Args:
            models: compiled policy and reference, by default these as they are.
            packed: winner and loser in one batch, and not one after the other.
        """
        policy, reference = models or (self.policy, self.reference)
        parts = [slice(0, 2)] if packed else [slice(0, 1), slice(1, 2)]
        with torch.no_grad():
            still = torch.cat([self._errors(reference, part) for part in parts])
        moved = torch.cat([self._errors(policy, part) for part in parts]) - still
        loss = torch.nn.functional.softplus(0.5 * self._beta * (moved[0] - moved[1]))
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._trained])
        return {"loss": loss.item(), "grad_norm": norm.item()}

    def update(self) -> None:
        """Applies the gradient, and waits for the device."""
        self._optimizer.step()
        self.forget()
        if self._target.device.type == "cuda":
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Throws the gradient away."""
        self._optimizer.zero_grad(set_to_none=True)

    def _errors(self, model: Callable, part: slice) -> torch.Tensor:
        inputs = (x[part] for x in self._inputs)
        with autocast(self._target.device, self._half):
            output = model(*inputs, return_dict=False)[0]
        return (output.float() - self._target[part]).square().mean((1, 2, 3, 4))


def autocast(device: torch.device, half: bool) -> contextlib.AbstractContextManager:
    """Context in which matrix products compute in bfloat16, where `half`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
