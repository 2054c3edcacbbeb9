"""What benchmarks/gpu.py times: programs of a recipe, and the same work in diffusers and torch."""

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import peers
import torch
from ml_collections import ConfigDict

from vidpref.diffusion.denoising import corrupt_clips
from vidpref.generation.adopt import load_config
from vidpref.generation.generator import build_base
from vidpref.interop.table import to_params
from vidpref.interop.wan import transformer_table
from vidpref.models.frozen import Keeping
from vidpref.planning.flops import count_flops
from vidpref.stages.planning import Planned, plan_section
from vidpref.stages.programs import programs
from vidpref.training.sharding import make_mesh
from vidpref.typing import PyTree

CASES = ("lora", "full", "sample", "unet")
_BETA, _RATE = 20.0, 1e-5
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
_SMALL = (
    *("compute_dtype=float32", "text.dtype=float32", "text.length=16", "text.dim=24"),
    *("data.height=32", "data.width=48", "align.lora.rank=3", "model.wan.text_dim=24"),
    *("model.wan.num_attention_heads=2", "model.wan.attention_head_dim=12"),
    *("model.wan.ffn_dim=40", "model.wan.freq_dim=16", "model.wan.num_layers=2"),
)
_SMALL_UNET = (
    *("model.unet3d.features=(32,)", "model.unet3d.blocks=(1,)", "model.unet3d.spatial=(False,)"),
    *("model.unet3d.temporal=(True,)", "model.unet3d.cross=(True,)", "text.dim=8"),
)
_STEP = (
    *("align.train.accumulate=1", "align.train.optimizer.name=adam"),
    *("align.train.optimizer.clip_norm=0", "align.train.optimizer.warmup_steps=0"),
    f"align.train.optimizer.learning_rate={_RATE}",
)


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is timed.

    Attributes:
        name: for the table.
        check: what all must agree on, {name: value}; called once, before anything is timed.
        work: is done when it returns.
    """

    name: str
    check: Callable[[], Mapping[str, Any]]
    work: Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Case:
    """Contenders that do the same work, of so many FLOP."""

    flops: float
    tolerance: float
    contenders: list[Contender]


@dataclasses.dataclass(frozen=True)
class Options:
    """How cases are made.

    Attributes:
        tiny: small networks in float32.
        sampler_steps: of a clip.
        compiled: whether the packed peer is compiled.
        overrides: of the config.
    """

    tiny: bool = False
    sampler_steps: int = 4
    compiled: bool = False
    overrides: Sequence[str] = ()


def config_of(name: str, frames: int, options: Options) -> ConfigDict:
    """Returns the recipe's config of a case, on one device.

    Args:
        name: one of `CASES`.
        frames: of a clip, in pixels.
        options: sizes, and overrides.
    """
    tiny, overrides = options.tiny, options.overrides
    if name == "unet":
        own = (*_STEP, "mesh.fsdp=1", "align.train.batch_size=8", *(_SMALL_UNET if tiny else ()))
        return load_config(f"dpo_aif:{'mini' if tiny else 'paper'}", [*own, *overrides])
    own = (*_STEP, f"align.beta={_BETA}", "align.train.batch_size=1", f"data.frames={frames}")
    own += ("data.buckets=()", f"sampler.steps={options.sampler_steps}", *(_SMALL if tiny else ()))
    own += ("align.lora.rank=0",) if name == "full" else ()
    return load_config("flow_dpo:wan2_1_1_3b@80gb", [*own, *overrides])


def make_case(name: str, frames: int, options: Options) -> Case:
    """Returns a case with its contenders, ours first, whose networks lie on the device."""
    config = config_of(name, frames, options)
    if name == "sample":
        flops, contenders = _sampling(config)
    elif name == "unet":
        flops, contenders = _unet(config)
    else:
        flops, contenders = _training(config, options.compiled)
    return Case(flops, _TOLERANCE[config.compute_dtype], contenders)


def _training(config: ConfigDict, compiled: bool) -> tuple[float, list[Contender]]:
    """The step of a pair: of adapters where the config has some, else of all weights."""
    mesh, rank = make_mesh({}, jax.devices()[:1]), config.align.lora.rank
    planned = plan_section(config, "align", mesh)
    plan, module = planned.training.plan, planned.training.generator.module
    table = transformer_table(module)
    torch.manual_seed(0)
    policy = peers.like(module)
    reference = copy.deepcopy(policy).requires_grad_(False)
    params = other = _as_ours(reference, module, planned)
    start = None
    if rank:
        peers.adapt(policy, rank, config.align.lora.alpha)
        start = peers.adapters_of(policy, table)
    else:
        peers.perturb(policy)
        params = start = _as_ours(policy, module, planned)
    state = plan.create(0, start)
    frozen = planned.training.frozen(params, other if start is params else None)
    batch = jax.device_put(filled(planned.batch))
    needed, ours = _own_step(planned, state, frozen, batch)
    # the noise of our first step; later ones have their own, the peer has this always
    rng, _ = jax.random.split(jax.random.fold_in(state.key, state.step))
    process = planned.training.generator.process
    noisy = jax.jit(lambda x: corrupt_clips(process, rng, x))(batch["clips"].astype(jnp.float32))
    device, half = _torch_device(), config.compute_dtype == "bfloat16"
    shown = {"x_tau": _channels_first(noisy.x_tau[0]), "clips": _channels_first(noisy.clips[0])}
    shown["eps"] = _channels_first(jnp.repeat(noisy.eps, 2, axis=0))
    shown["tau"] = np.repeat(np.asarray(noisy.tau), 2)
    shown["text"] = np.repeat(np.asarray(batch["text"], np.float32), 2, axis=0)
    if half:
        for model in (policy, reference) if rank else (reference,):
            peers.keep_in_half(model)
    policy.enable_gradient_checkpointing()
    dpo = peers.DPO(
        policy.to(device).train(),
        reference.to(device),
        {name: torch.tensor(x, device=device) for name, x in shown.items()},
        beta=config.align.beta,
        rate=_RATE,
        half=half,
    )
    return needed, [ours, *_peers(dpo, compiled)]


def _peers(dpo: peers.DPO, compiled: bool) -> list[Contender]:
    models = [torch.compile(model) for model in (dpo.policy, dpo.reference)] if compiled else None

    def contender(name: str, **how: Any) -> Contender:
        def check() -> Mapping[str, Any]:
            found = dpo.gradient(**how)
            dpo.forget()
            return found

        def work() -> None:
            dpo.gradient(**how)
            dpo.update()

        return Contender(name, check, work)

    return [
        contender("diffusers, four forwards", packed=False),
        contender(f"diffusers, packed{', compiled' * compiled}", packed=True, models=models),
    ]


def _own_step(
    planned: Planned, state: PyTree, frozen: PyTree, batch: PyTree
) -> tuple[float, Contender]:
    """FLOP that the method needs, and our step; its first metrics are those of `state`."""
    plan = planned.training.plan
    flops = count_flops(plan.step.trace(plan.state, planned.frozen, planned.batch))
    held = [state]

    def step() -> Mapping[str, Any]:
        held[0], metrics = plan.step(held[0], frozen, batch)
        metrics = jax.block_until_ready(metrics)
        return {name: float(metrics[name]) for name in ("loss", "grad_norm")}

    return flops.total - flops.rematerialized, Contender("vidpref", step, step)


def _unet(config: ConfigDict) -> tuple[float, list[Contender]]:
    planned = plan_section(config, "align", make_mesh({}, jax.devices()[:1]))
    plan = planned.training.plan
    state = plan.create(0)
    frozen = planned.training.frozen(jax.tree.map(jnp.copy, state.params))
    needed, ours = _own_step(planned, state, frozen, jax.device_put(filled(planned.batch)))
    return needed, [ours]


def _sampling(config: ConfigDict) -> tuple[float, list[Contender]]:
    """One clip with guidance, from the same noise."""
    mesh, generator = make_mesh({}, jax.devices()[:1]), build_base(config)
    drawing = programs(config, mesh)["sample"]()
    flops = count_flops(drawing.trace())
    torch.manual_seed(0)
    model = peers.like(generator.module).requires_grad_(False).eval()
    tensors = {name: x.numpy() for name, x in model.state_dict().items()}
    params = jax.device_put(to_params(tensors, transformer_table(generator.module)))
    params = Keeping(generator.init, "compute").all(params)
    batch = filled(drawing.arguments["batch"])
    noise = np.random.default_rng(1).normal(size=(1, *generator.clip_shape)).astype(np.float32)
    batch = jax.device_put(batch | {"noise": noise})
    keys = jnp.zeros((1, 2), jnp.uint32)

    def draw() -> Mapping[str, Any]:
        clips, _ = drawing.apply(params, keys, batch)
        return {"clips": np.asarray(clips)}

    device, half = _torch_device(), config.compute_dtype == "bfloat16"
    if half:
        peers.keep_in_half(model)
    model.to(device)
    texts = [torch.tensor(np.asarray(batch[name], np.float32)) for name in ("text", "null_text")]
    text, start = torch.cat(texts).to(device), torch.tensor(_channels_first(noise), device=device)
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=config.diffusion.flow.shift,
    )
    scale = config.sampler.guidance_scale

    @torch.no_grad()
    def peer() -> Mapping[str, Any]:
        scheduler.set_timesteps(config.sampler.steps, device=device)
        x = start
        for when in scheduler.timesteps:
            with peers.autocast(device, half):
                seen = x.repeat(2, 1, 1, 1, 1), when.repeat(2), text
                told, untold = model(*seen, return_dict=False)[0].float().chunk(2)
            x = scheduler.step(untold + scale * (told - untold), when, x, return_dict=False)[0]
        return {"clips": np.moveaxis(x.cpu().numpy(), 1, -1)}

    return flops.total, [Contender("vidpref", draw, draw), Contender("diffusers", peer, peer)]


def filled(shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Returns a batch of noise in which the first clip of a row is the better one."""
    rng = np.random.default_rng(0)
    found = {}
    for name, x in shapes.items():
        if x.dtype == bool:
            found[name] = np.ones(x.shape, bool)
        elif name == "reward":
            found[name] = np.broadcast_to(np.arange(x.shape[1], 0, -1), x.shape).astype(x.dtype)
        elif jnp.issubdtype(x.dtype, jnp.integer):
            found[name] = rng.integers(0, 256, x.shape).astype(x.dtype)
        else:
            found[name] = rng.normal(size=x.shape).astype(x.dtype)
    return found


def check_agreement(case: Case) -> None:
    """Refuses contenders that compute something else; they are compiled on the way.

    Raises:
        ValueError: names the contender and what differs, relative to the first one's largest.
    """
    values = {}
    for contender in case.contenders:
        started = time.perf_counter()
        values[contender.name] = contender.check()
        print(f"{contender.name}: ready after {time.perf_counter() - started:.0f} s", flush=True)
    first, *others = values.values()
    for name, found in zip(list(values)[1:], others, strict=True):
        for what, value in first.items():
            error = float(np.abs(found[what] - value).max() / np.abs(value).max())
            if not error < case.tolerance:
                raise ValueError(f"nothing is timed, as {name} differs: {what} by {error:.1e}")


def _as_ours(model: torch.nn.Module, module: Any, planned: Planned) -> PyTree:
    tensors = {name: x.numpy().copy() for name, x in model.state_dict().items()}
    params = to_params(tensors, transformer_table(module))
    return jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), params, planned.params)


def _channels_first(x: Any) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(np.asarray(x, np.float32), -1, 1))


def _torch_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
