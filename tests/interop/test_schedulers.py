"""Schedulers of diffusers: their times and noise, and what is refused."""

import json

import diffusers
import numpy as np
import pytest

from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.interop.schedulers import read_scheduler


def config_of(scheduler):
    return json.loads(scheduler.to_json_string())


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
V = {"prediction_type": "v_prediction"}


@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_schedulers_give_diffusers_times(shift, steps):
    theirs = {
        "unipc": diffusers.UniPCMultistepScheduler(flow_shift=shift, **FLOW),
        "euler": diffusers.FlowMatchEulerDiscreteScheduler(shift=shift),
    }
    for name, scheduler in theirs.items():
        process, sampler = read_scheduler(config_of(scheduler))
        assert sampler == name
        assert process.prediction == "velocity"
        scheduler.set_timesteps(steps)
        np.testing.assert_allclose(
            process.sampling_times(steps), scheduler.sigmas, rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize(
    "fields",
    [
        {},  # the defaults of diffusers, which files may leave out
        {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
        {"timestep_spacing": "linspace", "snr_shift_scale": 1.0, "rescale_betas_zero_snr": True},
    ],
)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (diffusers.CogVideoXDDIMScheduler, "cogvideox_ddim"),
        (diffusers.CogVideoXDPMScheduler, "cogvideox_dpm"),
    ],
)
def test_cogvideox_schedulers_give_diffusers_times_and_noise(kind, name, fields):
    scheduler = kind(**V, **fields)
    process, sampler = read_scheduler({"_class_name": kind.__name__, **V, **fields})
    assert read_scheduler(config_of(scheduler)) == (process, sampler)
    assert sampler == name
    assert isinstance(process, DDPM)
    assert process.prediction == "v"
    scheduler.set_timesteps(7)
    times = process.sampling_times(7)
    np.testing.assert_allclose(1000 * times[:-1] - 1, scheduler.timesteps, atol=1e-9)
    # theirs is computed in float32
    alpha, _ = process.alpha_sigma(np.arange(1, 1001) / 1000)
    np.testing.assert_allclose(alpha**2, scheduler.alphas_cumprod, atol=2e-6)


UNIPC, EULER = "UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"
REFUSED = [
    (UNIPC, FLOW | {"prediction_type": "epsilon"}, "prediction_type='epsilon'"),
    (UNIPC, {"prediction_type": "flow_prediction"}, "use_flow_sigmas=False"),
    (UNIPC, FLOW | {"solver_order": 3}, "solver_order=3"),
    (UNIPC, FLOW | {"use_karras_sigmas": True}, "use_karras_sigmas=True"),
    (UNIPC, FLOW | {"shift_terminal": 0.02}, "shift_terminal=0.02"),
    (UNIPC, FLOW | {"disable_corrector": [0]}, r"disable_corrector=\[0\]"),
    (EULER, {"use_dynamic_shifting": True}, "use_dynamic_shifting=True"),
    (EULER, {"use_beta_sigmas": True}, "use_beta_sigmas=True"),
    (EULER, {"num_train_timesteps": 500}, "num_train_timesteps=500"),
    ("CogVideoXDDIMScheduler", {}, "prediction_type='epsilon'"),
    ("CogVideoXDDIMScheduler", V | {"beta_end": 0.02}, "beta_end=0.02"),
    ("CogVideoXDPMScheduler", V | {"set_alpha_to_one": False}, "set_alpha_to_one=False"),
    (UNIPC, FLOW | {"solver_p": ["diffusers", "DDIMScheduler"]}, r"solver_p=\['diffusers', "),
]


@pytest.mark.parametrize(("name", "fields", "named"), REFUSED)
def test_another_computation_is_refused_by_its_field(name, fields, named):
    with pytest.raises(ValueError, match=f"{name} with {named}.*: only .* is implemented"):
        read_scheduler({"_class_name": name, **fields})


def test_another_scheduler_is_refused():
    with pytest.raises(ValueError, match="the scheduler 'DDIMScheduler': known are UniPCMulti"):
        read_scheduler({"_class_name": "DDIMScheduler"})


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (UNIPC, FLOW | {"flow_shfit": 5.0}, "flow_shfit=5.0: unknown, did you mean flow_shift"),
        (EULER, {"shift": None}, "shift=None: must be a float"),
        (EULER, {"shift": "5"}, "shift='5': must be a float"),
        (EULER, {"shift": True}, "shift=True: must be a float"),
        ("CogVideoXDDIMScheduler", V | {"timestep_spacing": 3}, "spacing=3: must be a str"),
        ("CogVideoXDDIMScheduler", V | {"timestep_spacing": "odd"}, "spacing='odd': known are"),
    ],
)
def test_fields_that_cannot_be_are_refused(name, fields, message):
    with pytest.raises(ValueError, match=message):
        read_scheduler({"_class_name": name, **fields})


def test_unknown_fields_that_are_null_are_passed_over():
    fields = {"_class_name": UNIPC, **FLOW}
    assert read_scheduler(fields | {"a_new_field": None}) == read_scheduler(fields)


def test_a_scheduler_that_took_the_place_of_another_is_read():
    """diffusers keeps the fields of the one before in the file, and computes without them."""
    before = diffusers.DPMSolverMultistepScheduler(
        **FLOW, flow_shift=3.0, algorithm_type="sde-dpmsolver++", euler_at_final=True
    )
    unipc = diffusers.UniPCMultistepScheduler.from_config(before.config)
    assert {"algorithm_type", "euler_at_final"} < set(config_of(unipc))
    assert read_scheduler(config_of(unipc))[0] == RectifiedFlow(shift=3.0, spacing="unipc")
    euler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(unipc.config, shift=5.0)
    assert {"flow_shift", "algorithm_type"} < set(config_of(euler))
    assert read_scheduler(config_of(euler)) == (RectifiedFlow(shift=5.0), "euler")
