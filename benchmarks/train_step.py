"""One forward and one training step of a Wan-like network: vidpref against diffusers.

    pip install -e ".[test]"
    JAX_PLATFORMS=cpu python benchmarks/train_step.py                      # full fine-tuning
    JAX_PLATFORMS=cpu python benchmarks/train_step.py --lora_rank=16 --breakdown
    python benchmarks/train_step.py --device=gpu --dtype=bfloat16 --attention=cudnn,chunked \
        --heads=12 --head_dim=128 --layers=8 --frames=5 --height=60 --width=104 --text_tokens=512

All contenders have the weights of one random `WanTransformer3DModel` and get the same batch: pairs
of latents, winner and loser packed, for Flow-DPO with a reference of other weights and Adam. Unless
their outputs, losses (before and after an update) and gradient norms agree nothing is timed. Every
round then times each contender once, so that whatever else the machine does falls on all of them;
the table shows medians over rounds with the fastest and slowest, and the median of each round's
ratio of times. bfloat16 means: float32 parameters, and in PyTorch autocast.
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is PyTorch's too

import copy
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import interleaved
import jax
import jax.numpy as jnp
import numpy as np
import peers
import torch
from absl import flags
from diffusers import WanTransformer3DModel

from vidpref.config.fields import build
from vidpref.config.training import Optimizer
from vidpref.diffusion.denoising import Corrupted, denoising_errors
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.interop.table import to_params
from vidpref.interop.wan import transformer_table
from vidpref.models.attention import dot_product_attention
from vidpref.models.condition import Condition
from vidpref.models.dense import flat_dot_general
from vidpref.models.lora import LoRA, with_lora
from vidpref.models.wan.network import Wan
from vidpref.objectives.alignment import OBJECTIVES, Errors, Labels
from vidpref.runs import command_line as program
from vidpref.training.optimizer import learning_rate_schedule, make_optimizer
from vidpref.training.sharding import make_mesh
from vidpref.training.state import create_state, state_shardings
from vidpref.training.step import make_train_step
from vidpref.typing import Array, PyTree

_DEVICE = flags.DEFINE_enum("device", "auto", ["auto", "cpu", "gpu"], "auto: the GPU if any.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the computation.")
_ATTENTION = flags.DEFINE_list("attention", ["chunked", "xla"], "Ours, a contender each.")
_COMPILE = flags.DEFINE_bool("compile", True, "Whether torch.compile is a contender.")
_UNROLL = flags.DEFINE_bool("unroll", True, "Whether our scan over the blocks is written out.")
_LORA_RANK = flags.DEFINE_integer("lora_rank", 0, "0: all weights are trained.", lower_bound=0)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Interleaved rounds.", lower_bound=1)
_BREAKDOWN = flags.DEFINE_bool("breakdown", False, "Say where our step's time goes.")
_PAIRS = flags.DEFINE_integer("pairs", 1, "Pairs in the batch.", lower_bound=1)
_HEADS = flags.DEFINE_integer("heads", 6, "Heads; Wan2.1 1.3B has 12.", lower_bound=1)
_HEAD_DIM = flags.DEFINE_integer("head_dim", 64, "Wan2.1 has 128.", lower_bound=6)
_LAYERS = flags.DEFINE_integer("layers", 4, "Blocks; Wan2.1 1.3B has 30.", lower_bound=1)
_FRAMES = flags.DEFINE_integer("frames", 4, "Latent frames.", lower_bound=1)
_HEIGHT = flags.DEFINE_integer("height", 32, "Latent rows, even.", lower_bound=2)
_WIDTH = flags.DEFINE_integer("width", 32, "Latent columns, even.", lower_bound=2)
_TEXT_TOKENS = flags.DEFINE_integer("text_tokens", 64, "Wan2.1 has 512.", lower_bound=1)

_CHANNELS, _TEXT_DIM, _BETA = 16, 512, 20.0
_OPTIMIZER = Optimizer(name="adam", learning_rate=1e-4, decay="constant", clip_norm=0.0)
_OUR_TARGETS = ("(self|cross)/.*/",)  # those of `peers.ATTENTION`
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclasses.dataclass(frozen=True)
class Contender:
    """Two things to time, each done when it returns.

    Attributes:
        name: for the table.
        forward: the policy's output for the packed pairs [n, t, h, w, c].
        step: one update; returns the loss and the norm of the gradient before it.
    """

    name: str
    forward: Callable[[], np.ndarray]
    step: Callable[[], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What all contenders are given.

    Attributes:
        config: of the network.
        policy: in PyTorch, with adapters where they are trained.
        reference: in PyTorch, frozen.
        tensors: of the policy by name, without adapters.
        batch: clean and noisy clips [b, 2, t, h, w, c], eps, tau, text.
    """

    config: dict[str, Any]
    policy: torch.nn.Module
    reference: torch.nn.Module
    tensors: dict[str, np.ndarray]
    batch: dict[str, np.ndarray]


def main(overrides: Sequence[str]) -> None:
    if overrides:
        raise ValueError(f"this benchmark has flags only, no config: {' '.join(overrides)}")
    problem = _problem(_start())
    makers = [functools.partial(_vidpref, problem, name) for name in _ATTENTION.value]
    makers.append(functools.partial(_diffusers, problem, compiled=False))
    if _COMPILE.value and (failure := _compile_failure(problem.policy.device)):
        print(f"no torch.compile on this machine: {failure}")
    elif _COMPILE.value:
        makers.append(functools.partial(_diffusers, problem, compiled=True))
    contenders = [make() for make in makers]
    check_agreement(contenders, _TOLERANCE[_DTYPE.value])
    works = {c.name: (c.forward, c.step) for c in contenders}
    times = interleaved.times(works, _ROUNDS.value)
    interleaved.print_table(times, ["forward", "step"], against=contenders[-1].name)
    if _BREAKDOWN.value:
        step = statistics.median(step for _, step in times[contenders[0].name])
        _print_breakdown(problem, contenders[0].name, step)


def _start() -> bool:
    """Gives both libraries the same device and cores; returns whether it is the GPU."""
    program.keep_freed_memory()  # PyTorch's too
    if _DEVICE.value == "cpu":
        jax.config.update("jax_platforms", "cpu")
    found = {"JAX": jax.default_backend() == "gpu", "PyTorch": torch.cuda.is_available()}
    gpu = all(found.values()) and _DEVICE.value != "cpu"
    if _DEVICE.value == "gpu" and not gpu:
        blind = [library for library, sees in found.items() if not sees]
        raise ValueError(f"--device=gpu: {' and '.join(blind)} see no GPU")
    if gpu and _DTYPE.value == "float32":
        # else JAX rounds the factors to TF32, and PyTorch does not
        jax.config.update("jax_default_matmul_precision", "highest")
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    device = torch.cuda.get_device_name() if gpu else f"{cores} cores for JAX and for PyTorch"
    print(f"{device}, {_DTYPE.value}; jax {jax.__version__}, torch {torch.__version__}")
    return gpu


def _problem(gpu: bool) -> Problem:
    width = _HEADS.value * _HEAD_DIM.value
    config = {
        "num_attention_heads": _HEADS.value,
        "attention_head_dim": _HEAD_DIM.value,
        "in_channels": _CHANNELS,
        "out_channels": _CHANNELS,
        "text_dim": _TEXT_DIM,
        "ffn_dim": width * 35 // 6,  # as in the 1.3B
        "num_layers": _LAYERS.value,
    }
    torch.manual_seed(0)
    policy = WanTransformer3DModel(**config)
    reference = copy.deepcopy(policy).requires_grad_(False)
    if not _LORA_RANK.value:
        peers.perturb(policy)
    tensors = {name: tensor.numpy().copy() for name, tensor in policy.state_dict().items()}
    if _LORA_RANK.value:
        peers.adapt(policy, _LORA_RANK.value, _LORA_RANK.value)
    tokens = _FRAMES.value * _HEIGHT.value * _WIDTH.value // 4
    count = sum(tensor.size for tensor in tensors.values())
    print(
        f"{count / 1e6:.1f}M parameters: {_LAYERS.value} blocks, {_HEADS.value} x "
        f"{_HEAD_DIM.value} wide; {2 * _PAIRS.value} clips of {tokens} tokens, "
        f"{_TEXT_TOKENS.value} of text; "
        + (f"LoRA of rank {_LORA_RANK.value}" if _LORA_RANK.value else "all weights trained")
    )
    device = "cuda" if gpu else "cpu"
    return Problem(config, policy.to(device), reference.to(device), tensors, _batch())


def _batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    b, shape = _PAIRS.value, (_FRAMES.value, _HEIGHT.value, _WIDTH.value, _CHANNELS)
    clips, eps = rng.normal(size=(b, 2, *shape)), rng.normal(size=(b, *shape))
    tau = rng.uniform(0.2, 0.8, b)
    mix = tau.reshape(b, *[1] * 5)
    batch = {
        "clips": clips,
        "eps": eps,
        "tau": tau,
        "x_tau": (1 - mix) * clips + mix * eps[:, None],
        "text": rng.normal(size=(b, _TEXT_TOKENS.value, _TEXT_DIM)),
    }
    return {name: values.astype(np.float32) for name, values in batch.items()}


def _vidpref(problem: Problem, attention: str) -> Contender:
    module = Wan.from_config(
        problem.config, attention=attention, unroll=_UNROLL.value, dtype=_DTYPE.value
    )
    table = transformer_table(module)
    base = jax.device_put(to_params(problem.tensors, table))
    frozen = {"base": base}
    boxed = functools.partial(_boxed_params, module, problem.batch)
    if _LORA_RANK.value:
        spec = LoRA(rank=_LORA_RANK.value, alpha=_LORA_RANK.value, targets=_OUR_TARGETS)
        adapted = with_lora(module.apply, spec)
        start = peers.adapters_of(problem.policy, table)

        def init(key: Array) -> PyTree:
            return spec.init(key, jax.eval_shape(boxed, key))

        def apply(trainable: PyTree, frozen: PyTree, *inputs: Any) -> Array:
            return adapted({"params": frozen["base"]}, trainable, *inputs)

    else:
        start, init, frozen = base, boxed, {}

        def apply(trainable: PyTree, frozen: PyTree, *inputs: Any) -> Array:
            return module.apply({"params": trainable}, *inputs)

    reference = {k: v.cpu().numpy() for k, v in problem.reference.state_dict().items()}
    frozen["reference"] = jax.device_put(to_params(reference, table))
    batch = jax.device_put(problem.batch)

    def loss_fn(trainable: PyTree, frozen: PyTree, batch: PyTree, rng: Array) -> tuple[Array, dict]:
        corrupted = Corrupted(**{k: batch[k] for k in ("clips", "x_tau", "eps", "tau")})
        groups = [(corrupted, _condition(batch["text"]))]
        errors = functools.partial(denoising_errors, process=RectifiedFlow(), groups=groups)
        rows = Errors(
            policy=errors(functools.partial(apply, trainable, frozen))[0],
            reference=errors(
                lambda *inputs: module.apply({"params": frozen["reference"]}, *inputs)
            )[0],
            tau=batch["tau"],
        )
        labels = Labels(reward=jnp.array([[1.0, 0.0]] * _PAIRS.value))
        return OBJECTIVES["dpo"].fn(rows, labels, beta=_BETA)

    mesh = make_mesh({}, jax.devices()[:1])
    config = build(_OPTIMIZER)
    schedule = learning_rate_schedule(config, steps=1000)
    optimizer = make_optimizer(config, schedule, jax.eval_shape(init, jax.random.key(0)))
    _, shardings = state_shardings(init, optimizer, mesh, with_ema=False)
    train_step = make_train_step(loss_fn, optimizer, schedule, shardings, mesh)
    held = [create_state(init, optimizer, shardings, seed=0, init_from=start)]

    @jax.jit
    def packed_forward(trainable: PyTree, frozen: PyTree, batch: PyTree) -> Array:
        x = batch["x_tau"].reshape(-1, *batch["x_tau"].shape[2:])
        condition = _condition(batch["text"]).repeat(2)
        return apply(trainable, frozen, x, jnp.repeat(batch["tau"], 2), condition)

    def step() -> Mapping[str, Array]:
        held[0], metrics = train_step(held[0], frozen, batch)
        return jax.block_until_ready(metrics)

    def forward() -> np.ndarray:
        return np.asarray(packed_forward(held[0].params, frozen, batch))

    return Contender(f"vidpref, {attention}", forward, step)


def _boxed_params(module: Wan, batch: Mapping[str, np.ndarray], key: Array) -> PyTree:
    inputs = batch["x_tau"][:, 0], batch["tau"], _condition(batch["text"])
    return module.init(key, *inputs)["params"]


def _condition(text: Array) -> Condition:
    return Condition(text=text, text_mask=jnp.ones(text.shape[:2], bool))


def _compile_failure(device: torch.device) -> str:
    """Why torch.compile does not work here (it needs a C++ compiler); empty if it does."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(8, device=device))
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return ""


def _diffusers(problem: Problem, *, compiled: bool) -> Contender:
    policy, device = copy.deepcopy(problem.policy), problem.policy.device
    reference = problem.reference
    run_policy, run_reference = (
        (torch.compile(policy), torch.compile(reference)) if compiled else (policy, reference)
    )
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(
        trained,
        lr=_OPTIMIZER.learning_rate,
        betas=(_OPTIMIZER.b1, _OPTIMIZER.b2),
        fused=True,
    )
    batch = {name: torch.tensor(values, device=device) for name, values in problem.batch.items()}
    x, clips = (batch[k].flatten(0, 1).movedim(-1, 1).contiguous() for k in ("x_tau", "clips"))
    eps = batch["eps"].repeat_interleave(2, 0).movedim(-1, 1)
    inputs = x, batch["tau"].repeat_interleave(2) * 1000, batch["text"].repeat_interleave(2, 0)
    target = (eps - clips).contiguous()
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=_DTYPE.value == "bfloat16")

    def errors(model: Callable) -> torch.Tensor:
        with mixed:
            output = model(*inputs, return_dict=False)[0]
        return (output.float() - target).square().mean((1, 2, 3, 4)).view(-1, 2)

    def step() -> dict[str, float]:
        with torch.no_grad():
            moved = -errors(run_reference)
        moved = moved + errors(run_policy)
        logit = 0.5 * _BETA * (moved[:, 1] - moved[:, 0])
        loss = torch.nn.functional.softplus(-logit).mean()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": loss.item(), "grad_norm": norm.item()}  # waits for the device

    def forward() -> np.ndarray:
        with torch.no_grad(), mixed:
            output = run_policy(*inputs, return_dict=False)[0]
        return output.float().cpu().numpy().transpose(0, 2, 3, 4, 1)

    return Contender(f"diffusers, {'torch.compile' if compiled else 'eager'}", forward, step)


def check_agreement(contenders: Sequence[Contender], tolerance: float) -> None:
    """Refuses contenders that compute something else; they are compiled on the way.

    Args:
        contenders: with PyTorch's eager mode among them.
        tolerance: of the largest difference, relative to eager's largest value.

    Raises:
        ValueError: names each contender and what differs.
    """
    found = {}
    for contender in contenders:
        started = time.perf_counter()
        values = {"forward": contender.forward()}
        for when in ("", " after an update"):
            metrics = contender.step()
            values |= {f"{name}{when}": float(metrics[name]) for name in ("loss", "grad_norm")}
        found[contender.name] = values
        print(f"{contender.name}: ready after {time.perf_counter() - started:.0f} s")
    eager = found["diffusers, eager"]
    errors = {
        (name, what): float(np.abs(value - eager[what]).max() / np.abs(eager[what]).max())
        for name, values in found.items()
        for what, value in values.items()
    }
    worst = {what: max(e for (_, w), e in errors.items() if w == what) for what in eager}
    print("agreement with eager: " + ", ".join(f"{w} {e:.0e}" for w, e in worst.items()))
    wrong = {key: error for key, error in errors.items() if not error < tolerance}
    if wrong:
        listed = "; ".join(f"{name}: {what} by {e:.1e}" for (name, what), e in wrong.items())
        raise ValueError(f"the contenders do not compute the same, so nothing is timed: {listed}")


def _print_breakdown(problem: Problem, name: str, step: float) -> None:
    """Times the parts of our step by themselves: twice forward, once backward, every block."""
    n, tokens = 2 * _PAIRS.value, _FRAMES.value * _HEIGHT.value * _WIDTH.value // 4
    texts, width = _TEXT_TOKENS.value, _HEADS.value * _HEAD_DIM.value
    ffn, blocks = problem.config["ffn_dim"], _LAYERS.value
    attend = functools.partial(dot_product_attention, implementation=_ATTENTION.value[0])

    def product(x: Array, kernel: Array) -> Array:
        kernel = jax.lax.stop_gradient(kernel) if _LORA_RANK.value else kernel
        return flat_dot_general(x, kernel, (((2,), (0,)), ((), ())))

    def attention(length: int) -> Callable:
        heads = _HEADS.value, _HEAD_DIM.value
        return _part(attend, (n, tokens, *heads), *[(n, length, *heads)] * 2)

    def dense(length: int, inputs: int, outputs: int) -> Callable:
        return _part(product, (n, length, inputs), (inputs, outputs))

    # how often a block has each part, and the part
    parts = {
        "attention to the clip": (1, attention(tokens)),
        "attention to the text": (1, attention(texts)),
        "projections of the clip": (6, dense(tokens, width, width)),
        "projections of the text": (2, dense(texts, width, width)),
        "perceptron in": (1, dense(tokens, width, ffn)),
        "perceptron out": (1, dense(tokens, ffn, width)),
    }
    for _, work in parts.values():
        work()
    works = {part: [work] for part, (_, work) in parts.items()}
    rows = interleaved.times(works, _ROUNDS.value)
    spent = {
        part: parts[part][0] * blocks * statistics.median(seconds for (seconds,) in own)
        for part, own in rows.items()
    }
    spent["rest: norms, rotary, modulation, embeddings, Adam"] = step - sum(spent.values())
    print(f"\nwhere the step of {name} goes (parts timed by themselves)")
    print("| part | ms | % |\n| --- | --- | --- |")
    for part, seconds in spent.items():
        print(f"| {part} | {1e3 * seconds:.0f} | {100 * seconds / step:.0f} |")


def _part(fn: Callable, *shapes: tuple[int, ...]) -> Callable:
    """The reference's forward, and the policy's with its backward."""
    rng = np.random.default_rng(0)
    dtype = jnp.dtype(_DTYPE.value)
    inputs, twin = (
        [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes] for _ in range(2)
    )

    @jax.jit
    def run(inputs: list[Array], twin: list[Array]) -> PyTree:
        out, back = jax.vjp(fn, *inputs)
        return back(fn(*twin)), out

    return lambda: jax.block_until_ready(run(inputs, twin))


if __name__ == "__main__":
    program.launch(main)
