"""VideoReward as a judge: scores by folder, failures, normalisation, what cannot see the prompt."""

import jax
import numpy as np
import pytest
from flax.core import meta

from tests.language.reward_rows import DIMENSIONS, clip, tiny_reader
from vidpref.config.fields import build
from vidpref.config.schema import Reward as RewardSection
from vidpref.config.video_reward import VideoReward as VideoRewardSection
from vidpref.generation.adopt import load_config
from vidpref.interop.video_reward_export import export_video_reward
from vidpref.interop.video_reward_settings import VideoRewardSettings
from vidpref.language.reward_scores import Normalisation
from vidpref.models.qwen_vl.reward import QwenVLReward, smallest_rows
from vidpref.rewards.registry import build_reward, check_reward, judge_version
from vidpref.rewards.reward import Reward
from vidpref.stages.judge_programs import scoring_of_clips
from vidpref.training.sharding import make_mesh

SCALE = Normalisation(
    dict(zip(DIMENSIONS, (0.5, -1.0, 2.0), strict=True)),
    dict(zip(DIMENSIONS, (2.0, 0.5, 1.0), strict=True)),
    "the validation clips",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny model with random weights."""
    reader = tiny_reader(tmp_path_factory.mktemp("tokenizer"))
    module = QwenVLReward(reader.config, 3, 3)
    shapes = jax.eval_shape(module.init, jax.random.key(0), smallest_rows(reader.config, 3))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), meta.unbox(shapes)["params"]
    )
    settings = VideoRewardSettings(
        DIMENSIONS, 3, "tiny", pixels=(64, 256), frames=(4, 8), normalisation=SCALE
    )
    out = tmp_path_factory.mktemp("judges") / "tiny"
    export_video_reward(out, module, params, settings, reader, dtype="float32")
    return out


def section(folder, *dimensions, **fields):
    own = {"folder": str(folder), "dtype": "float32", "fps": 4.0, **fields}
    return build(
        RewardSection(
            name="video_reward",
            dimension=dimensions[0],
            dimensions=dimensions,
            video_reward=VideoRewardSection(**own),
        )
    )


def test_clips_are_scored_and_what_cannot_be_is_a_failure(folder):
    dimensions = (*DIMENSIONS, "overall")
    judge = build_reward(section(folder, *dimensions))
    assert isinstance(judge, Reward)
    assert judge.dimensions == dimensions == check_reward(section(folder, *dimensions))
    assert "mean/deviation of the validation clips: visual_quality 0.5000/2.0000" in str(judge)
    clips = np.stack([clip(6, seed=i) for i in range(10)])
    prompts = ["a ball", "two cubes", " ", *["a ball"] * 7]
    rates = np.array([4.0] * 9 + [np.nan])
    said = judge.score(clips, prompts, rates)
    assert said.failures.keys() == {2, 9}
    assert "the prompt is empty" in said.failures[2]
    assert "its rate must be known" in said.failures[9]
    good = [i for i in range(10) if i not in said.failures]
    assert all(np.isfinite(values[good]).all() for values in said.scores.values())
    assert said.reasons[2] == ""
    assert said.reasons[0].endswith("; saw 4 of 6 frames at 16x16 pixels")
    np.testing.assert_allclose(
        said.scores["overall"][good],
        np.mean([said.scores[name][good] for name in DIMENSIONS], axis=0),
        rtol=1e-5,
    )
    raw = float(said.reasons[0].split("visual_quality ")[1].split(",")[0])
    np.testing.assert_allclose(said.scores["visual_quality"][0], (raw - 0.5) / 2, atol=1e-4)

    # under other prompts, in the same places
    again = judge.score(clips[:9], ["blue!"] * 9)
    for name, same in zip(DIMENSIONS, (True, True, False), strict=True):
        equal = said.scores[name][[0, 1, 3]] == again.scores[name][[0, 1, 3]]
        assert equal.all() if same else not equal.any(), name
    assert not again.failures


def test_the_code_of_videoalign_sums_and_the_folder_may_say_less(folder):
    mean, total = (
        build_reward(section(folder, "overall", overall=overall, normalise=False)).score(
            clip(6)[None], ["a"]
        )
        for overall in ("mean", "sum")
    )
    np.testing.assert_allclose(total.scores["overall"], 3 * mean.scores["overall"], rtol=1e-5)
    raw = [float(part.split()[-1]) for part in mean.reasons[0].partition(";")[0].split(",")]
    np.testing.assert_allclose(mean.scores["overall"][0], np.mean(raw), atol=1e-3)


@pytest.mark.parametrize(
    ("dimensions", "fields", "message"),
    [
        (("accept",), {}, "does not score 'accept'"),
        (("overall",), {"folder": ""}, "folder is empty"),
        (("overall",), {"folder": "/nowhere"}, "it has no model_config.json"),
        (("overall",), {"template": "/nowhere.txt"}, "no such template"),
    ],
)
def test_what_is_no_judge_is_refused_without_reading_weights(folder, dimensions, fields, message):
    reward = section(folder, *dimensions)
    for name, value in fields.items():
        reward.video_reward[name] = value
    for refuse in (check_reward, build_reward):
        with pytest.raises(ValueError, match=message):
            refuse(reward)


def test_a_run_must_say_how_fast_its_clips_are(folder):
    with pytest.raises(ValueError, match=r"video_reward\.fps=0: say how many frames a second"):
        check_reward(section(folder, "overall", fps=0.0))


def test_the_version_follows_the_files(folder, tmp_path):
    template = tmp_path / "own.txt"
    template.write_text("one")
    before = judge_version(section(folder, "overall", template=str(template)))
    template.write_text("two")
    after = judge_version(section(folder, "overall", template=str(template)))
    assert before != after != judge_version(section(folder, "overall"))


def test_normalisation_of_known_scores():
    scores = {"a": np.float32([1, 2, 3, 4]), "b": np.float32([0, 0, 0, 8])}
    scale = Normalisation.fit(scores, "4 clips")
    assert scale.mean == {"a": 2.5, "b": 2.0}
    np.testing.assert_allclose([scale.std["a"], scale.std["b"]], [1.25**0.5, 12**0.5])
    for values in scale(scores).values():
        np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=1e-6)
    with pytest.raises(ValueError, match="1 scores of one clip say nothing"):
        Normalisation.fit({"a": np.ones(1)}, "one clip")
    with pytest.raises(ValueError, match="scores of a cannot be normalised"):
        Normalisation.fit({"a": np.ones(3)}, "3 clips")


def test_a_plan_is_given_what_the_judge_gives_its_network(folder):
    fields = ("name=video_reward", "dimension=overall", "dimensions=('overall',)")
    fields += (f"video_reward.folder={folder}",)
    fields += ("video_reward.dtype=bfloat16", "video_reward.fps=4.0")
    clips = ("data.frames=6", "data.height=16", "data.width=16", "text.length=2")
    config = load_config("flow_dpo:mini", [*(f"reward.{one}" for one in fields), *clips])
    judge, given = build_reward(config.reward), []
    judge._run = lambda *arguments: given.append(arguments) or np.zeros((8, 3), np.float32)
    judge.score(clip(6)[None], ["word word"])

    _, planned = scoring_of_clips(config, make_mesh({"data": -1}))

    def described(tree):
        return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)

    assert described(tuple(planned.values())) == described(given[0])
