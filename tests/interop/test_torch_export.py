"""Exported PyTorch files: networks, samplers and text equal ours, and torch alone runs them."""

import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch

from tests.models.conftest import (
    CLIP,
    TEXT,
    build,
    make_inputs,
    random_params,
    randomize,
)
from tests.models.torch_parity import relative_error
from tests.torch_alone import PROGRAM, draw_with_torch_alone, import_program
from vidpref.datasets.text import WordTable
from vidpref.diffusion.ddpm import DDPM
from vidpref.diffusion.flow import RectifiedFlow
from vidpref.diffusion.samplers import Chain, sample
from vidpref.generation.generator import Generator, SamplerSettings
from vidpref.interop.torch_export import ExportedNetwork, export_torch, torch_program
from vidpref.models.dense import dense
from vidpref.models.lora import LoRA, merge_into
from vidpref.pixels import to_bytes

TOLERANCE = 1e-5
QUICK = {"xla_backend_optimization_level": 0}
SETTINGS = {
    "sampler": {"name": "ddim", "eta": 0.0, "guidance_scale": 1.0},
    "text": {"name": "words", "length": TEXT[0], "dim": TEXT[1], "truncate": False},
    "fps": 8.0,
}
HIGH = (4, 16, 16, 3)
UPSAMPLER = {"first_frame": False, "low_res": True, "residual": "low_res"}


@functools.cache
def compiled(module):
    """Our network; compiling it is nearly all of the time."""
    return jax.jit(lambda params, *x: module.apply({"params": params}, *x), compiler_options=QUICK)


def export(out, networks, process=None, dtype="float32", **sampler):
    """Writes modules with their parameters and clip shapes; returns what the program offers."""
    settings = {**SETTINGS, "sampler": {**SETTINGS["sampler"], **sampler}}
    networks = {name: ExportedNetwork(*network, steps=3) for name, network in networks.items()}
    process = process or DDPM(prediction="x0")
    export_torch(out, networks, process, settings, command="python x", dtype=dtype)
    return import_program(out)


def tensor(x):
    return None if x is None else torch.from_numpy(np.array(x))


def channels_first(x):
    return None if x is None else tensor(np.moveaxis(np.array(x), -1, 1))


def theirs(network, x, tau, condition):
    """The output of an exported network, channels last as ours."""
    with torch.no_grad():
        out = network(
            channels_first(x),
            tensor(tau),
            tensor(condition.text),
            tensor(condition.text_mask),
            channels_first(condition.first_frame),
            channels_first(condition.low_res),
            tensor(condition.low_res_tau),
        )
    return np.moveaxis(out.numpy(), 1, -1)


LOW_RES = {"low_res": True, "residual": "low_res"}
ONE_LEVEL = {"features": (16,), "blocks": (1,), "spatial": (True,)}
ONE_LEVEL |= {"temporal": (True,), "cross": (True,)}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("unet3d", LOW_RES),
        ("unet3d", {**ONE_LEVEL, "first_frame": False}),
        ("dit", {"residual": "first_frame"}),
        ("dit", {"cross": False, "first_frame": False}),
        ("st_dit", LOW_RES),
    ],
)
def test_networks_compute_what_ours_do(name, fields, tmp_path):
    module = build(name, **fields)
    x, tau, condition = make_inputs(low_res=module.low_res)
    if not module.first_frame:
        condition = condition.replace(first_frame=None)
    some = condition.replace(text_mask=condition.text_mask.at[1].set(False))  # no text in row 1
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, tau, condition)["params"]
    params = randomize(shapes)
    program = export(tmp_path / "out", {"generator": (module, params, CLIP)})
    network = program.VideoGenerator.load(tmp_path / "out").generator
    ours = compiled(module)(params, x, tau, some)
    error = relative_error(theirs(network, x, tau, some), ours)
    print(f"\n{name}: {error:.1e}")
    assert error < TOLERANCE
    assert relative_error(theirs(network, x, tau, condition), ours) > 0.01


def test_merged_adapters_and_bfloat16(tmp_path):
    module, inputs = build("st_dit"), make_inputs()
    base = random_params(module)
    spec = LoRA(rank=2, alpha=6.0, targets=(r"(spatial|full|cross)/",))
    boxed = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    shapes = jax.eval_shape(functools.partial(spec.init, base=boxed), jax.random.key(1))
    merged = merge_into(jax.tree.map(jnp.copy, base), randomize(shapes, seed=1), spec)
    ours = compiled(module)(merged, *inputs)
    out = {}
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        program = export(folder, {"generator": (module, merged, CLIP)}, dtype=dtype)
        network = program.VideoGenerator.load(folder).generator
        out[dtype] = relative_error(theirs(network, *inputs), ours)
    assert out["float32"] < TOLERANCE < out["bfloat16"] < 0.05
    assert relative_error(compiled(module)(base, *inputs), ours) > 0.01


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """What the file of a small transformer offers."""
    module = build("dit", cross=False)
    folder = tmp_path_factory.mktemp("exported") / "out"
    return export(folder, {"generator": (module, random_params(module), CLIP)})


PROCESSES = [
    DDPM(prediction="x0"),
    DDPM("linear", 50, prediction="eps", spacing="leading"),
    DDPM("linear", 1000, prediction="x0", spacing="linspace"),
    DDPM("scaled_linear", prediction="v", snr_shift=3.0, zero_terminal_snr=True),
    RectifiedFlow(prediction="velocity", shift=3.0),
    RectifiedFlow(prediction="x0", min_time=0.1),
    RectifiedFlow(prediction="v", shift=5.0, spacing="unipc"),
]


def exported_process(program, process):
    fields = {
        "ddpm": ("prediction", "schedule", "steps", "spacing", "snr_shift", "zero_terminal_snr"),
        "flow": ("prediction", "shift", "min_time", "spacing"),
    }
    name = "ddpm" if isinstance(process, DDPM) else "flow"
    return program.PROCESSES[name](**{field: getattr(process, field) for field in fields[name]})


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_times_and_weights(process, program):
    theirs = exported_process(program, process)
    for steps in (1, 2, 7, 19, 37, 50):
        times = process.sampling_times(steps)
        np.testing.assert_allclose(theirs.times(steps).numpy(), times, rtol=1e-14, atol=1e-15)
        for one, other in zip(
            theirs.alpha_sigma(theirs.times(steps)), process.alpha_sigma(times), strict=True
        ):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="sampler steps"):
        theirs.times(0)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_samplers_draw_what_ours_draw(process, program):
    """From one noise, with a network that is a formula of both its arguments."""
    rng = np.random.default_rng(0)
    steps = 6
    noise = rng.normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
    added = rng.normal(size=(2, steps, 3, 4, 5, 2)).astype(np.float32)
    exported = exported_process(program, process)
    start = channels_first(noise)
    with_step_noise = torch.from_numpy(np.moveaxis(added, -1, 2))

    def ours(x, tau):
        return jnp.sin(1.5 * x + 3 * tau[:, None, None, None, None])

    def theirs(x, tau):
        return torch.sin(1.5 * x + 3 * tau)

    cases = {"ddim": [0.0, 0.6], "ddpm": [1.0], "unipc": [0.0]}
    cases |= {} if isinstance(process, DDPM) else {"euler": [0.0]}
    for name, etas in cases.items():
        for eta in etas:
            chain = Chain(
                process,
                ours,
                jnp.asarray(noise),
                steps,
                eta=eta,
                step_noise=jnp.asarray(added),
                clip_x0=1.0,
            )
            wanted = np.clip(sample(name, chain), -1, 1)
            if name == "unipc":
                clip = program.unipc(exported, theirs, start, steps)
            else:
                fresh = lambda i: with_step_noise[:, i]  # noqa: E731
                clip = program.ddim(exported, theirs, start, steps, eta, fresh)
            clip = np.moveaxis(clip.clamp(-1, 1).numpy(), 1, -1)
            np.testing.assert_allclose(clip, wanted, atol=2e-5, err_msg=f"{name}, eta {eta}")


def test_words(program):
    prompts = ["A red ball, falling down!", "Würfel fällt", "x_1 rolls; 3 times"]
    ours, mask = WordTable(7, 26).encode(prompts)
    text, text_mask = program.embed_words(prompts, 7, 26)
    np.testing.assert_allclose(text.numpy(), ours, atol=1e-6)
    np.testing.assert_array_equal(text_mask.numpy(), mask)
    cut, _ = WordTable(3, 10, truncate=True).encode(prompts)
    np.testing.assert_allclose(program.embed_words(prompts, 3, 10, True)[0].numpy(), cut, atol=1e-6)
    with pytest.raises(ValueError, match="has 7 words, 3 are allowed"):
        program.embed_words(prompts[:1], 3, 10)
    with pytest.raises(ValueError, match="has no word"):
        program.embed_words([" "], 3, 10)


def draw_ours(generator, params, noise, **conditions):
    batch = {**conditions, "noise": jnp.asarray(noise)}
    keys = jax.random.split(jax.random.key(0), len(noise))
    return jax.jit(generator.sample, compiler_options=QUICK)(params, keys, batch)


def our_generator(module, process, clip_shape, **fields):
    settings = SamplerSettings("ddim", steps=3, guidance_scale=2.5)
    return Generator(module, process, clip_shape, TEXT, settings, **fields)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    """An exported cascade, and a clip that ours draws: (folder, noises, frame, both its sizes)."""
    folder = tmp_path_factory.mktemp("cascade") / "out"
    process = DDPM(prediction="x0")
    base, upsampler = build("dit"), build("unet3d", patch=(1, 4, 4), **UPSAMPLER)
    superres = our_generator(upsampler, process, HIGH, low_res_shape=CLIP[1:3], image="")
    params = random_params(base)
    more = randomize(jax.eval_shape(superres.init, jax.random.key(0)))
    export(
        folder,
        {"generator": (base, params, CLIP), "superres": (upsampler, more, HIGH)},
        process,
        guidance_scale=2.5,
    )
    rng = np.random.default_rng(0)
    noises = [rng.normal(size=(1, *shape)).astype(np.float32) for shape in (CLIP, HIGH)]
    frame = rng.integers(0, 256, size=CLIP[1:]).astype(np.uint8)
    text, mask = WordTable(*TEXT).encode(["a red ball"])
    condition = {"text": jnp.asarray(text), "text_mask": jnp.asarray(mask)}
    first = {"first_frame": jnp.asarray(frame[None])}
    generator = our_generator(base, process, CLIP)
    low = to_bytes(draw_ours(generator, params, noises[0], **condition, **first))
    high = to_bytes(draw_ours(superres, more, noises[1], **condition, low_res=low))
    return folder, noises, frame, np.asarray(low), np.asarray(high)


def test_a_cascade_draws_our_clip(cascade):
    folder, noises, frame, _, high = cascade
    generator = import_program(folder).VideoGenerator.load(folder)
    options = {"noise": [channels_first(noise) for noise in noises]}
    clips = generator.draw(["a red ball"], tensor(frame), **options)
    # one of 255 levels, where rounding falls the other way
    assert np.abs(clips.numpy().astype(int) - high).max() <= 1
    other = generator.draw(["a red ball"], tensor(frame), guidance_scale=1.0, **options)
    assert np.abs(other.numpy().astype(int) - high).max() > 10
    again = [generator.draw(["a", "b"], tensor(frame), seed=seed, steps=2) for seed in (1, 1, 2)]
    assert again[0].shape == (2, *HIGH)
    assert (again[0] == again[1]).all()
    assert (again[0] != again[2]).any()
    with pytest.raises(ValueError, match="starts from an image"):
        generator.draw(["a red ball"])
    options["noise"][1] = options["noise"][1] * float("nan")
    with pytest.raises(ValueError, match="superres: NaN or infinite pixels in clips 0 of 1"):
        generator.draw(["a red ball"], tensor(frame), steps=1, **options)


def test_torch_alone_draws_our_clip(tmp_path):
    """No other package of this project, nor NumPy, safetensors or Pillow."""
    module, process = build("st_dit"), RectifiedFlow()
    params = random_params(module)
    export(tmp_path / "out", {"generator": (module, params, CLIP)}, process, name="euler")
    noise = np.random.default_rng(0).normal(size=(1, *CLIP)).astype(np.float32)
    frame = np.random.default_rng(1).integers(0, 256, size=CLIP[1:]).astype(np.uint8)
    np.save(tmp_path / "out" / "frame.npy", frame)
    text, mask = WordTable(*TEXT).encode(["a red ball"])
    condition = {"text": jnp.asarray(text), "text_mask": jnp.asarray(mask)}
    condition["first_frame"] = jnp.asarray(frame[None])
    generator = our_generator(module, process, CLIP)
    generator = dataclasses.replace(generator, sampler=SamplerSettings("euler", steps=3))
    ours = to_bytes(draw_ours(generator, params, noise, **condition))
    clip = draw_with_torch_alone(
        tmp_path / "out",
        "--prompt=a red ball",
        "--image=frame.npy",
        noise=np.moveaxis(noise, -1, 1),
    )
    assert np.abs(clip.astype(int) - np.asarray(ours[0])).max() <= 1
    np.save(tmp_path / "out" / "states.npy", text[mask])
    states = draw_with_torch_alone(
        tmp_path / "out",
        "--text_states=states.npy",
        "--image=frame.npy",
        noise=np.moveaxis(noise, -1, 1),
    )
    np.testing.assert_array_equal(states, clip)


@pytest.fixture
def run(cascade, tmp_path, monkeypatch, capsys):
    """Runs the program of the cascade; returns what it prints."""
    folder, _, frame, *_ = cascade
    monkeypatch.chdir(tmp_path)
    np.save("frame.npy", frame)

    def call(*argv):
        monkeypatch.setattr(sys, "argv", [PROGRAM, *argv])
        try:
            import_program(folder).main()
        except SystemExit as stop:
            return str(stop.code) + capsys.readouterr().err
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--prompt=x --image=frame.npy --out=clip.mp4", "want a name that ends in .npy, .gif"),
        ("--prompt=x --image=frame.npy --out=no/clip.npy", "in a folder that is not there"),
        ("--prompt=x --image=frame.npy --init_noise=frame.npy", "the noise is [8, 8, 3], the gen"),
        ("--prompt=x --image=frame.npy --steps=0", "--steps: want 1 or more"),
        ("--prompt=x --image=frame.npy --steps=1001", "a chain of 1000 allows 1 to that"),
        ("--prompt=x", "starts from an image"),
        ("--prompt=x --image=no.png", "No such file"),
        ("--prompt=a,b,c,d --image=frame.npy", "has 7 words, 5 are allowed"),
        ("--image=frame.npy", "give either --prompt or --text_states"),
        ("--text_states=frame.npy --image=frame.npy", "want states [up to 5 tokens, width]"),
    ],
)
def test_mistakes_are_sentences(argv, sentence, run):
    assert sentence in run(*argv.split())


def test_pictures_by_pillow(run, cascade, monkeypatch):
    _, _, frame, *_ = cascade
    PIL.Image.fromarray(frame).save("frame.png")
    PIL.Image.fromarray(frame.repeat(3, axis=0).repeat(3, axis=1)).save("large.png")
    assert run("--prompt=x", "--image=frame.png", "--out=small.npy") == "small.npy\n"
    assert run("--prompt=x", "--image=large.png", "--out=large.npy") == "large.npy\n"
    assert run("--prompt=x", "--image=frame.npy", "--out=clip.npy") == "clip.npy\n"
    np.testing.assert_array_equal(np.load("small.npy"), np.load("clip.npy"))
    assert np.abs(np.load("large.npy").astype(int) - np.load("clip.npy")).mean() < 25
    run("--prompt=x", "--image=frame.npy", "--out=clip.gif")
    with PIL.Image.open("clip.gif") as gif:
        assert (gif.size, gif.n_frames, gif.info["duration"]) == ((16, 16), 4, 120)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "writing clip.gif needs Pillow" in run("--prompt=x", "--out=clip.gif")
    assert "reading frame.png needs Pillow" in run("--prompt=x", "--image=frame.png")


def test_arrays_are_numpys(program, tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((3, 4, 5, 3), (1,), (2, 0)):
        pixels = rng.integers(0, 256, size=shape).astype(np.uint8)
        program.write_npy(tmp_path / "ours.npy", tensor(pixels))
        np.testing.assert_array_equal(np.load(tmp_path / "ours.npy"), pixels)
    for array in (rng.normal(size=(2, 3)), rng.normal(size=4).astype(np.float32)):
        np.save(tmp_path / "theirs.npy", array)
        np.testing.assert_array_equal(program.read_npy(tmp_path / "theirs.npy").numpy(), array)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(rng.normal(size=(2, 3))))
    with pytest.raises(ValueError, match="C-ordered"):
        program.read_npy(tmp_path / "fortran.npy")


@pytest.mark.parametrize("kinds", [["unet3d"], ["st_dit"], ["dit", "unet3d"]], ids=str)
def test_the_file_is_in_good_order(kinds, tmp_path):
    path = tmp_path / PROGRAM
    command = rf"""python {PROGRAM} --prompt='a ""ball"\U of x\'"""
    path.write_text(torch_program(kinds, command))
    assert command in import_program(tmp_path).__doc__
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select=E,F,I,UP,B,SIM"], ["format", "--check"]):
        call = [*ruff, *command, "--isolated", "--line-length=100", "--target-version=py310", path]
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert ("class UNet3D" in path.read_text()) == ("unet3d" in kinds)


def test_refuses(tmp_path):
    module = build("dit")
    network = {"generator": (module, random_params(module), CLIP)}
    with pytest.raises(ValueError, match=r"sampler.name='cogvideox_dpm'.*draws by ddim, ddpm"):
        export(tmp_path / "out", network, name="cogvideox_dpm")
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        export(tmp_path / "out", network, dtype="float16")
    with pytest.raises(ValueError, match="a Dense has no form in PyTorch; these have: unet3d, dit"):
        export(tmp_path / "out", {"generator": (dense(3), {}, CLIP)})
    wrong = {"generator": (build("st_dit"), random_params(module), CLIP)}
    with pytest.raises(ValueError, match="with a rule but not in the model"):
        export(tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="not an empty folder"):
        export(tmp_path / "out", network)
