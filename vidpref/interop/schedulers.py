"""Schedulers of diffusers: the noise process and the sampler that compute what they do."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from vidpref.config.nearest import nearest
from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.process import Process


def read_scheduler(config: Mapping[str, Any]) -> tuple[Process, str]:
    """Returns the process and the sampler that compute what a scheduler of diffusers does.

    Unknown fields that are null are passed over, and those of other schedulers: diffusers keeps
    them in the file where a pipeline was given another scheduler, and computes nothing with them.

    Args:
        config: config of a `UniPCMultistepScheduler` or `FlowMatchEulerDiscreteScheduler` (flow),
            or a `CogVideoXDDIMScheduler` or `CogVideoXDPMScheduler`.

    Raises:
        ValueError: another scheduler, or a field that asks for another computation.
    """
    name = config.get("_class_name")
    if not isinstance(name, str) or name not in _SCHEDULERS:
        raise ValueError(f"the scheduler {name!r}: known are {', '.join(_SCHEDULERS)}")
    scheduler = _SCHEDULERS[name]
    # a field that the file lacks has the default of diffusers, which is given second
    for field, (wanted, default) in scheduler.fixed.items():
        value = config.get(field, default)
        same = wanted if isinstance(wanted, tuple) else (wanted,)
        if value not in same:
            raise ValueError(f"{name} with {field}={value!r}: only {same[0]!r} is implemented")
    known = {*scheduler.fixed, *scheduler.read}
    for field, value in config.items():
        if not (field in known | _WITHOUT_EFFECT or field.startswith("_") or value is None):
            raise ValueError(
                f"{name} with {field}={value!r}: unknown, {nearest(field, sorted(known))}"
            )
    values = {field: config.get(field, default) for field, default in scheduler.read.items()}
    for field, value in values.items():
        kind = type(scheduler.read[field])
        number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        if not (isinstance(value, kind) or number):
            raise ValueError(f"{name} with {field}={value!r}: must be a {kind.__name__}")
    return scheduler.process(values), scheduler.sampler


@dataclasses.dataclass(frozen=True)
class _Scheduler:
    """A class of diffusers.

    Attributes:
        fixed: fields of which one value is implemented: (it, or all that compute the same, it
            first; diffusers' default).
        read: fields that are read, with diffusers' defaults.
        process: from the values of `read`.
        sampler: name in `config.sampler`.
    """

    fixed: Mapping[str, tuple[Any, Any]]
    read: Mapping[str, Any]
    process: Callable[[Mapping[str, Any]], Process]
    sampler: str


def _unipc(fields: Mapping[str, Any]) -> RectifiedFlow:
    return RectifiedFlow(shift=float(fields["flow_shift"]), spacing="unipc")


def _euler(fields: Mapping[str, Any]) -> RectifiedFlow:
    return RectifiedFlow(shift=float(fields["shift"]))


def _cogvideox(fields: Mapping[str, Any]) -> DDPM:
    return DDPM(
        "scaled_linear",
        prediction="v",
        spacing=fields["timestep_spacing"],
        snr_shift=float(fields["snr_shift_scale"]),
        zero_terminal_snr=fields["rescale_betas_zero_snr"],
    )


_THOUSAND = {"num_train_timesteps": (1000, 1000)}
_OTHER_SIGMAS = {
    "use_karras_sigmas": (False, False),
    "use_exponential_sigmas": (False, False),
    "use_beta_sigmas": (False, False),
}
_UNIPC = {
    **_THOUSAND,
    "prediction_type": ("flow_prediction", "epsilon"),
    "use_flow_sigmas": (True, False),
    "solver_order": (2, 2),
    # the names of other solvers' types stand for "bh2" there
    "solver_type": (("bh2", "midpoint", "heun", "logrho"), "bh2"),
    "solver_p": (None, None),
    "predict_x0": (True, True),
    "lower_order_final": (True, True),
    "disable_corrector": ([], []),
    "final_sigmas_type": ("zero", "zero"),
    "thresholding": (False, False),
    "use_dynamic_shifting": (False, False),
    "shift_terminal": (None, None),
    **_OTHER_SIGMAS,
}
_EULER = {
    **_THOUSAND,
    "use_dynamic_shifting": (False, False),
    "invert_sigmas": (False, False),
    "shift_terminal": (None, None),
    "stochastic_sampling": (False, False),
    **_OTHER_SIGMAS,
}
_COGVIDEOX = {
    **_THOUSAND,
    "prediction_type": ("v_prediction", "epsilon"),
    "beta_schedule": ("scaled_linear", "scaled_linear"),
    "beta_start": (0.00085, 0.00085),
    "beta_end": (0.012, 0.012),
    "trained_betas": (None, None),
    "set_alpha_to_one": (True, True),
    "steps_offset": (0, 0),
}
_COGVIDEOX_READ = {
    "timestep_spacing": "leading",
    "snr_shift_scale": 3.0,
    "rescale_betas_zero_snr": False,
}
_SCHEDULERS = {
    "UniPCMultistepScheduler": _Scheduler(_UNIPC, {"flow_shift": 1.0}, _unipc, "unipc"),
    "FlowMatchEulerDiscreteScheduler": _Scheduler(_EULER, {"shift": 1.0}, _euler, "euler"),
    "CogVideoXDDIMScheduler": _Scheduler(_COGVIDEOX, _COGVIDEOX_READ, _cogvideox, "cogvideox_ddim"),
    "CogVideoXDPMScheduler": _Scheduler(_COGVIDEOX, _COGVIDEOX_READ, _cogvideox, "cogvideox_dpm"),
}
# Fields that change nothing where the classes above have their fixed values, and fields of other
# classes only.
_WITHOUT_EFFECT = frozenset(
    {
        # of dynamic shifting and thresholding, and of the sigmas that are not those of flow
        *("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type"),
        *("dynamic_thresholding_ratio", "sample_max_value", "sigma_min", "sigma_max"),
        # read by no line of the CogVideoX classes
        *("clip_sample", "clip_sample_range"),
        # of DPM-Solver, DDPM, Euler and PNDM
        *("algorithm_type", "euler_at_final", "lambda_min_clipped", "variance_type"),
        *("use_lu_lambdas", "interpolation_type", "timestep_type", "skip_prk_steps"),
        *(name for kind in _SCHEDULERS.values() for name in (*kind.fixed, *kind.read)),
    }
)
