"""Video files into latents: their values and sizes, bad files, and what a second call redoes."""

from pathlib import Path

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from absl import logging
from flax import linen as nn

from vidpref.config.fields import build
from vidpref.config.schema import Data
from vidpref.datasets.bad_clips import TooManyBadClips
from vidpref.datasets.records import RecordFile
from vidpref.datasets.video import decode_clip
from vidpref.datasets.video_writing import encode_clip
from vidpref.generation.adopt import load_config
from vidpref.generation.autoencoder import Decoder
from vidpref.generation.first_frames import open_first_frames
from vidpref.interop.pipelines import PipelineFolder
from vidpref.runs.inputs import decoder_of
from vidpref.stages import encode
from vidpref.training.sharding import make_mesh


class Brightness(nn.Module):
    """Halves a clip's size and keeps its first channel; its latents are quick to compute."""

    in_channels: int = 3
    space_ratio: int = 2

    def encode(self, clips):
        return clips[:, :, ::2, ::2, :1]


@pytest.fixture
def mesh():
    return make_mesh({}, jax.devices()[:1])


def write(path, height=32, width=48, frames=10, seed=0):
    """A video whose blocks of colour move to the right."""
    rng = np.random.default_rng(seed)
    block = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = block.repeat(8, 0).repeat(8, 1)
    path.parent.mkdir(exist_ok=True)
    encode_clip(path, np.stack([np.roll(image, 2 * t, axis=1) for t in range(frames)]), fps=8)


def clips_of(*rows):
    """(path, prompt) rows as the encode stage gets them."""
    return pd.DataFrame(
        [{"id": path.name, "path": str(path), "prompt": prompt} for path, prompt in rows]
    )


def section(**fields):
    data = {"frames": 3, "height": 16, "width": 32, "fps": 4.0, "max_bad_fraction": 0.0}
    return build(Data(**data | fields))


def run(folder, clips, mesh, data, batch_size=1, earlier=()):
    folder.mkdir(exist_ok=True)
    encode.encode_clips(
        folder,
        clips,
        Decoder(Brightness()),
        {},
        data,
        batch_size=batch_size,
        images=None,
        mesh=mesh,
        earlier=earlier,
    )
    records = RecordFile(sorted(folder.glob("latents-*.array_record")))
    table = pd.read_parquet(folder / "clips.parquet")
    return {row.id: (records[row.record], (row.height, row.width)) for row in table.itertuples()}


def of_cogvideox(folder, x, frames):
    """The image's latent as the pipeline of diffusers makes it, which pads it with zeros."""
    pipe = diffusers.CogVideoXImageToVideoPipeline.from_pretrained(folder)
    with torch.no_grad():
        latent = pipe.vae.encode(x[:, :, :1]).latent_dist.mode() * pipe.vae.config.scaling_factor
    return {"image_latent": latent.numpy().transpose(0, 2, 3, 4, 1)}


def of_wan(folder, x, frames):
    """The image's latent and states as the pipeline of diffusers makes them."""
    pipe = diffusers.WanImageToVideoPipeline.from_pretrained(folder)
    found = {"image_latent": [], "image_states": []}
    for i, clip in enumerate(frames):
        picture = PIL.Image.fromarray(clip[0])
        with torch.no_grad():
            found["image_states"] += [*pipe.encode_image(picture).numpy()]
            first = x[i : i + 1, :, 0]
            _, latent = pipe.prepare_latents(first, 1, 4, 32, 48, 9, torch.float32, "cpu")
        found["image_latent"] += [*latent.numpy().transpose(0, 2, 3, 4, 1)]
    return {name: np.stack(values) for name, values in found.items()}


@pytest.mark.parametrize(
    ("fixture", "theirs"),
    [("image_to_video_folder", of_cogvideox), ("wan_image_to_video_folder", of_wan)],
)
def test_latents_are_those_of_the_decoded_frames(tmp_path, mesh, fixture, theirs, request):
    folder = PipelineFolder(request.getfixturevalue(fixture))
    spec = folder.family.pipelines[folder.pipeline]
    config = load_config(spec, [f"model.init={folder.path}"])
    stage = decoder_of(folder, config.model, mesh)
    decoder, params = stage.network, stage.load()
    images = open_first_frames(config.model, folder, (decoder, params), mesh)
    paths = [tmp_path / f"{i}.mp4" for i in range(3)]
    for i, path in enumerate(paths):
        write(path, height=40, width=56, seed=i)
    data = section(frames=9, height=32, width=48, fps=8.0)
    clips = clips_of(*((path, f"clip {path.stem}") for path in paths))
    out = tmp_path / "out"
    out.mkdir()
    encode.encode_clips(out, clips, decoder, params, data, batch_size=2, images=images, mesh=mesh)

    frames = [decode_clip(path, frames=9, height=32, width=48, fps=8.0) for path in paths]
    x = jnp.asarray(np.stack(frames), jnp.float32) / 127.5 - 1
    latents = jax.jit(decoder.encode)(params, x)
    expected = theirs(folder.path, torch.from_numpy(np.array(x)).permute(0, 4, 1, 2, 3), frames)
    expected["latent"] = np.asarray(latents)
    records = RecordFile(out / "latents-0000000-0000003.array_record")
    assert len(records) == 3
    for i, path in enumerate(paths):
        record = records[i]
        assert (record["clip_id"], record["prompt"]) == (path.name, f"clip {i}")
        assert record["latent"].shape == (3, 4, 6, 4)
        assert record.keys() == {"clip_id", "prompt", *expected}
        for name, wanted in expected.items():
            assert record[name].dtype == np.float16
            np.testing.assert_allclose(record[name], wanted[i], rtol=2e-3, atol=2e-3)
    for values in expected.values():
        assert np.abs(values[0] - values[1]).max() > 0.1


def test_clips_of_a_prompt_share_the_bucket_nearest_to_their_median(tmp_path, mesh):
    shapes = {  # prompt -> (h, w) of its clips
        "wide": [(32, 48), (32, 64)],
        "tall": [(48, 32)],
        "mixed": [(32, 64), (48, 32), (32, 56)],
        "square": [(32, 32), (32, 40)],
    }
    rows = []
    for prompt, sizes in shapes.items():
        for i, (height, width) in enumerate(sizes):
            rows.append((tmp_path / f"{prompt}{i}.mp4", prompt))
            write(rows[-1][0], height, width)
    data = section(buckets=((16, 32), (32, 16), (16, 16)))
    found = run(tmp_path / "out", clips_of(*rows), mesh, data, batch_size=2)
    wanted = {"wide": (16, 32), "tall": (32, 16), "mixed": (16, 32), "square": (16, 16)}
    assert len(found) == len(rows)
    for path, prompt in rows:
        record, size = found[path.name]
        height, width = wanted[prompt]
        assert (record["clip_id"], record["prompt"], size) == (path.name, prompt, wanted[prompt])
        frames = decode_clip(path, frames=3, height=height, width=width, fps=4.0)
        expected = frames[:, ::2, ::2, :1] / 127.5 - 1
        np.testing.assert_allclose(record["latent"], expected, atol=1e-3)


def three(folder):
    """Clips of which the second is cut off, and the third is too short."""
    for i in range(3):
        write(folder / f"{i}.mp4", seed=i, frames=3 if i == 2 else 10)
    cut = folder / "1.mp4"
    cut.write_bytes(cut.read_bytes()[:-200])
    return clips_of(*((folder / f"{i}.mp4", f"clip {i}") for i in range(3)))


def test_bad_clips_are_named_counted_and_refused(tmp_path, mesh):
    clips = three(tmp_path / "videos")
    out = tmp_path / "out"
    for _ in range(2):  # the second time nothing is decoded
        with pytest.raises(TooManyBadClips, match=r"2 of 3 clips are bad, .*allows 1; all are li"):
            run(out, clips, mesh, section(max_bad_fraction=0.5))
        assert not (out / "clips.parquet").exists()
        table = pd.read_csv(out / "bad_clips.csv")
        assert dict(zip(table["path"], table["reason"], strict=True)) == {
            clips["path"][1]: "truncated",
            clips["path"][2]: "too_short",
        }
    assert list(run(out, clips, mesh, section(max_bad_fraction=0.7))) == ["0.mp4"]


def test_short_clips_may_hold_their_last_frame(tmp_path, mesh):
    clips = three(tmp_path / "videos").drop(index=1)
    found = run(tmp_path / "out", clips, mesh, section(short="hold"))
    latent = found["2.mp4"][0]["latent"]
    np.testing.assert_array_equal(latent[1], latent[2])
    assert (latent[0] != latent[1]).any()


def test_a_mended_clip_is_read_again(tmp_path, mesh, monkeypatch):
    monkeypatch.setattr(encode, "_BATCHES", 1)
    clips = three(tmp_path / "videos").drop(index=2)
    out = tmp_path / "out"
    with pytest.raises(TooManyBadClips):
        run(out, clips, mesh, section())
    kept = (out / "latents-0000000-0000001.array_record").stat().st_mtime_ns
    write(tmp_path / "videos" / "1.mp4", seed=1)
    assert list(run(out, clips, mesh, section())) == ["0.mp4", "1.mp4"]
    assert pd.read_csv(out / "bad_clips.csv").empty
    assert (out / "latents-0000000-0000001.array_record").stat().st_mtime_ns == kept


def test_a_stopped_stage_goes_on_with_another_batch_size(tmp_path, mesh, monkeypatch):
    monkeypatch.setattr(encode, "_BATCHES", 1)
    rows = [(tmp_path / f"{i}.mp4", f"clip {i}") for i in range(5)]
    for i, (path, _) in enumerate(rows):
        write(path, seed=i)
    whole = run(tmp_path / "whole", clips_of(*rows), mesh, section(), batch_size=2)
    run(tmp_path / "out", clips_of(*rows), mesh, section(), batch_size=2)
    (
        tmp_path / "out" / "latents-0000004-0000005.array_record"
    ).unlink()  # stopped before its last chunk
    again = run(tmp_path / "out", clips_of(*rows), mesh, section(), batch_size=3)
    assert list(again) == list(whole)
    for name, (record, _) in whole.items():
        np.testing.assert_allclose(again[name][0]["latent"], record["latent"], atol=1e-3)


def test_chunks_of_the_same_clips_are_taken_over_from_an_earlier_stage(tmp_path, mesh, monkeypatch):
    monkeypatch.setattr(encode, "_BATCHES", 1)
    rows = [(tmp_path / f"{i}.mp4", f"clip {i}") for i in range(6)]
    for i, (path, _) in enumerate(rows):
        write(path, seed=i)
    first = run(tmp_path / "first", clips_of(*rows), mesh, section(), batch_size=2)
    write(rows[3][0], seed=33)  # made anew under its name
    asked = []
    decode = encode.decode_clip
    monkeypatch.setattr(
        encode,
        "decode_clip",
        lambda path, **kw: asked.append(Path(path).name) or decode(path, **kw),
    )
    earlier = [tmp_path / "first"]
    again = run(tmp_path / "again", clips_of(*rows), mesh, section(), 2, earlier=earlier)
    assert sorted(asked) == ["2.mp4", "3.mp4"]  # the chunk with that clip
    whole = run(tmp_path / "whole", clips_of(*rows), mesh, section(), batch_size=2)
    for name, (record, _) in whole.items():
        np.testing.assert_array_equal(again[name][0]["latent"], record["latent"])
    assert (again["3.mp4"][0]["latent"] != first["3.mp4"][0]["latent"]).any()


def test_only_what_is_missing_is_done_again(tmp_path, mesh, monkeypatch):
    monkeypatch.setattr(encode, "_BATCHES", 1)
    rows = [(tmp_path / f"{i}.mp4", f"clip {i}") for i in range(5)]
    for i, (path, _) in enumerate(rows):
        write(path, seed=i)
    out, clips = tmp_path / "out", clips_of(*rows)

    def times():
        return {p.name: p.stat().st_mtime_ns for p in out.glob("latents-*.array_record")}

    first, written = run(out, clips, mesh, section(), batch_size=2), times()
    assert len(written) == 3
    run(out, clips, mesh, section(), batch_size=2)
    assert times() == written
    lost = out / "latents-0000002-0000004.array_record"
    lost.unlink()
    again = run(out, clips, mesh, section(), batch_size=2)
    assert {name for name, time in times().items() if written[name] != time} == {lost.name}
    assert list(again) == list(first) == [path.name for path, _ in rows]
    for name, (record, _) in first.items():
        np.testing.assert_array_equal(again[name][0]["latent"], record["latent"])


def test_rates_above_the_videos_own_are_warned_of_once(tmp_path, mesh, monkeypatch):
    rows = [(tmp_path / f"{i}.mp4", f"clip {i}") for i in range(3)]
    for path, _ in rows:
        write(path)  # at 8 frames a second
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    run(tmp_path / "encoded", clips_of(*rows), mesh, section(fps=12.0))
    assert len(said) == 1
    assert said[0].startswith("data.fps=12 is above the frame rate of 3 of 3 videos, such as ")
    run(tmp_path / "slower", clips_of(*rows), mesh, section(fps=8.0))
    run(tmp_path / "spread", clips_of(*rows), mesh, section(fps=0.0))  # over all of each video
    assert len(said) == 1
