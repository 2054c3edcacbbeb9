"""A clip's noise depends on seed, scene and number alone; chunks are kept and not drawn again."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from vidpref.datasets.records import BrokenRecords
from vidpref.datasets.scenes import Scene
from vidpref.datasets.text import TextCache, WordTable
from vidpref.diffusion.ddpm import DDPM
from vidpref.generation.cascade import Sampler, chunked
from vidpref.generation.generator import Generator, SamplerSettings
from vidpref.generation.scene_conditions import SceneConditions
from vidpref.stages.sample import read_clips, sample_clips, seen_clip
from vidpref.training.sharding import make_mesh


class Silent(nn.Module):
    """Predicts no noise at all, so that what is drawn shows the noise it started from."""

    first_frame: bool = False

    @nn.compact
    def __call__(self, x, tau, condition):
        return jnp.zeros_like(x)


@pytest.fixture
def sampler(tmp_path):
    generator = Generator(
        module=Silent(),
        process=DDPM(prediction="v"),
        clip_shape=(2, 4, 4, 3),
        text_shape=(4, 8),
        sampler=SamplerSettings("ddim", steps=2, eta=1.0),
    )
    texts = TextCache.build(tmp_path / "text", WordTable(4, 8), ["a ball", "a cone"])
    return Sampler([generator], SceneConditions(texts), batch_size=8, mesh=make_mesh({"data": -1}))


def _scene(name, text="a ball"):
    return Scene(name, text, "DM", "train", np.zeros((4, 4, 3), np.uint8))


def test_a_clip_does_not_depend_on_its_neighbours(sampler):
    rows = [(_scene("x"), 0), (_scene("y", "a cone"), 0), (_scene("x"), 1)]
    together = sampler([{}], rows, 0)[1]["video"]
    assert len({clip.tobytes() for clip in together}) == 3
    for i, row in enumerate(rows):
        alone = sampler([{}], [row], 0)[1]["video"]
        np.testing.assert_array_equal(alone[0], together[i])


def test_another_seed_draws_other_clips(sampler):
    rows = [(_scene("x"), i) for i in range(4)]
    one = sampler([{}], rows, 0)[1]["video"]
    other = sampler([{}], rows, 10_000)[1]["video"]
    assert all((a != b).any() for a, b in zip(one, other, strict=True))


class OneWordBreaks:
    """Draws clips whose first value is NaN where the prompt has one word."""

    output, steps = "video", 1

    def sample(self, params, keys, batch):
        words = batch["text_mask"].sum(axis=1)
        return jnp.zeros((len(keys), 2, 4, 4, 3)).at[:, 0, 0, 0, 0].divide(words - 1.0)


def test_clips_that_are_no_numbers_are_refused_by_name_and_not_written(tmp_path):
    texts = TextCache.build(tmp_path / "text", WordTable(4, 8), ["a ball", "ball"])
    broken = Sampler(
        [OneWordBreaks()], SceneConditions(texts), batch_size=8, mesh=make_mesh({"data": -1})
    )
    rows = [(_scene("x"), 0), (_scene("y", "ball"), 3), (_scene("x"), 1)]
    with pytest.raises(ValueError, match=r"sampling of 'video': 1 of 3 clips .*: y/3 \(1 values\)"):
        sample_clips(tmp_path, broken, [{}], [rows], seed=0, name="sample")
    assert not list(tmp_path.glob("clips*"))
    assert len(broken([{}], rows[:1], 0)[1]["video"]) == 1


def test_chunks_that_are_there_are_kept(sampler, tmp_path):
    chunks = chunked([_scene("x"), _scene("y"), _scene("z")], 4, 8)
    assert [len(chunk) for chunk in chunks] == [8, 4]
    sample_clips(tmp_path, sampler, [{}], chunks, seed=0, name="sample")
    clips = read_clips(tmp_path)
    assert [clips[i]["clip_id"] for i in (0, 4, 11)] == ["x/0", "y/0", "z/3"]
    first, second = sorted(tmp_path.glob("clips-*.array_record"))
    kept, expected = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    sample_clips(tmp_path, sampler, [{}], chunks, seed=0, name="sample")
    assert first.stat().st_mtime_ns == kept
    assert second.read_bytes() == expected


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_a_stopped_stage_goes_on_with_another_batch_size(sampler, tmp_path, stopped_after):
    scenes = [_scene("x"), _scene("y"), _scene("z")]
    for folder in ("whole", "run"):
        (tmp_path / folder).mkdir()
    sample_clips(tmp_path / "whole", sampler, [{}], chunked(scenes, 4, 8), seed=0, name="sample")
    half = chunked(scenes, 4, 8)[:stopped_after]
    sample_clips(tmp_path / "run", sampler, [{}], half, seed=0, name="sample")
    (tmp_path / "run" / "clips.parquet").unlink()
    sampler.batch_size = 16
    sample_clips(tmp_path / "run", sampler, [{}], chunked(scenes, 4, 16), seed=0, name="sample")
    expected, clips = (read_clips(tmp_path / folder) for folder in ("whole", "run"))
    assert clips.index.equals(expected.index)
    for i in range(12):
        np.testing.assert_array_equal(clips[i]["video"], expected[i]["video"])


def test_clips_are_found_by_their_ids(sampler, tmp_path):
    scenes = [_scene("x"), _scene("y", "a cone"), _scene("z")]
    sample_clips(tmp_path, sampler, [{}], chunked(scenes, 4, 8), seed=0, name="sample")
    clips = read_clips(tmp_path)
    assert clips.index["clip_id"].tolist() == [f"{name}/{i}" for name in "xyz" for i in range(4)]
    assert clips.index.iloc[5].to_dict() == {
        "clip_id": "y/1",
        "scene_id": "y",
        "prompt": "a cone",
        "category": "DM",
        "split": "train",
        "sample": 1,
    }
    assert clips.numbers(["z/3", "x/0", "y/1"]).tolist() == [11, 0, 5]
    for number, name in enumerate(clips.index["clip_id"]):
        assert clips[number]["clip_id"] == clips.clip(name)["clip_id"] == name
    with pytest.raises(KeyError, match="w/0"):
        clips.numbers(["w/0"])


def test_a_stage_without_its_index_or_records_is_named(sampler, tmp_path):
    sample_clips(tmp_path, sampler, [{}], chunked([_scene("x")], 4, 8), seed=0, name="sample")
    index = pd.read_parquet(tmp_path / "clips.parquet")
    index[:3].to_parquet(tmp_path / "clips.parquet")
    with pytest.raises(BrokenRecords, match=r"4 records, but clips.parquet has 3"):
        read_clips(tmp_path)
    (tmp_path / "clips.parquet").unlink()
    with pytest.raises(BrokenRecords, match=r"has no clips.parquet, .* delete the folder and run"):
        read_clips(tmp_path)


def test_the_last_resolution_is_what_counts():
    low, high = np.zeros(1, np.uint8), np.ones(1, np.uint8)
    assert seen_clip({"latent": np.full(1, 2), "video": low}) is low
    assert seen_clip({"video": low, "video_high": high}) is high
