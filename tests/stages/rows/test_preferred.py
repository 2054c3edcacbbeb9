"""Which clips of a file of preferences each kind of rows holds, by the numbers of their latents."""

import itertools
import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from vidpref.config.align import Align
from vidpref.config.fields import build as section
from vidpref.config.schema import Data
from vidpref.datasets.pipeline import training_batches
from vidpref.datasets.records import write_records
from vidpref.datasets.text import TextCache, WordTable
from vidpref.datasets.video_folder import split_of
from vidpref.generation.adopt import load_config
from vidpref.objectives.alignment import Errors, Labels
from vidpref.objectives.alignment.dpo import dpo
from vidpref.runs import checks
from vidpref.runs.methods import open_recipe
from vidpref.stages import preferences
from vidpref.stages.rows.inputs import RowInputs
from vidpref.stages.rows.sampled import check_rows, real_rows, row_builder
from vidpref.training.sharding import filled_up

HELD_OUT = 0.2


def prompts(split, count):
    found = (text for i in itertools.count() if split_of(text := f"clip {i}", HELD_OUT) == split)
    return list(itertools.islice(found, count))


RED, BLUE, GREEN, NEW = prompts("train", 4)
TEST, VALIDATION = *prompts("test", 1), *prompts("validation", 1)

# (prompt, clip_a, clip_b, verdicts); a clip's number is that of its latent
LINES = [
    (RED, 1, 0, {"visual_quality": "B", "motion_quality": "tie"}),
    (RED, 0, 2, {"visual_quality": "A", "motion_quality": "B"}),
    (BLUE, 4, 3, {"visual_quality": "tie", "motion_quality": "A"}),
    (TEST, 5, 6, {"visual_quality": "A", "motion_quality": "A"}),
    (GREEN, 7, 8, {"visual_quality": "A", "motion_quality": "A"}),
    (VALIDATION, 9, 10, {"visual_quality": "B", "motion_quality": "B"}),
]


def moves(number):
    return {"object_motion": number / 10, "camera_motion": number / 100}


def write_lines(folder, lines, scores=moves):
    records = []
    for prompt, a, b, verdict in lines:
        for number in (a, b):
            (folder / f"{number}.mp4").touch()
        line = {"prompt": prompt, "clip_a": f"{a}.mp4", "clip_b": f"{b}.mp4", "verdict": verdict}
        records.append(line | {"scores_a": scores(a), "scores_b": scores(b)})
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, records)))


def write_real(folder, rows):
    """(file, caption, split) of real videos."""
    (folder / "real" / "videos").mkdir(parents=True)
    lines = ["file,caption,split", *(f'{file},"{text}",{split}' for file, text, split in rows)]
    (folder / "real" / "captions.csv").write_text("\n".join(lines))


def row_inputs(folder, *, real=False, without=(), null_prompt=None, pairs="pairs.jsonl"):
    """The file's clips as encoded ones, but for those of `without`; wide if their number is odd."""
    data = section(Data(pairs=str(folder / pairs), held_out=HELD_OUT))
    if real:
        data.real = str(folder / "real")
    (folder / "data").mkdir()
    (folder / "latents").mkdir()
    preferences.read(folder / "data", data)
    clips = preferences.clips_of(data)
    # records in another order than the file's clips
    kept = [row for row in clips[::-1].itertuples() if row.id not in without]
    numbers = [int(Path(row.id).stem) for row in kept]
    write_records(
        folder / "latents" / "latents-00000.array_record",
        (
            {
                "clip_id": row.id,
                "prompt": row.prompt,
                "latent": np.full((1, 2, 2, 1), n, np.float16),
            }
            for row, n in zip(kept, numbers, strict=True)
        ),
    )
    table = pd.DataFrame({"id": [row.id for row in kept], "record": range(len(kept))})
    table["height"], table["width"] = 32, [32 + 16 * (n % 2) for n in numbers]
    table.to_parquet(folder / "latents" / "clips.parquet")
    opened, encoded = preferences.open_encoded(data, folder / "data", folder / "latents")
    texts = TextCache.build(folder / "text", WordTable(4, 8), [*opened.prompts, "none"])
    return RowInputs(
        opened, texts, encoded=encoded, output="latent", null_prompt=null_prompt, folder=folder
    )


def config(rows, method="dpo", **fields):
    found = section(Align(method=method, rows=rows, **fields))
    check_rows(found)
    return found


def build(given, settings):
    rows = row_builder(settings).build(given, settings)
    return rows, [
        (row["clips"][:, 0, 0, 0, 0].astype(int).tolist(), row["reward"].tolist())
        for row in map(rows.__getitem__, range(len(rows)))
    ]


@pytest.fixture
def lines(tmp_path):
    write_lines(tmp_path, LINES)
    return tmp_path


def test_pairs_have_the_winner_first_and_held_out_prompts_do_not_train(lines):
    settings = config("preferred")
    settings.reward.visual_quality = 1.0
    rows, found = build(row_inputs(lines), settings)
    assert rows.k == 2
    assert sorted(found) == [([0, 1], [1.0, 0.0]), ([0, 2], [1.0, 0.0]), ([7, 8], [1.0, 0.0])]
    report = json.loads((lines / "pairs.json").read_text())
    assert (report["compared"], report["chosen"], report["ties"]) == (4, 3, 1)


def test_how_many_pairs_train_is_said_in_a_line(lines, caplog):
    with caplog.at_level("INFO"):
        given = row_inputs(lines, without=("1.mp4",))
        build(given, config("preferred"))
    assert (
        "preferences: 6 pairs of 11 clips: 4 of train prompts; held out 1 of validation and 1 of "
        "test prompts; 0 with an unreadable clip"
    ) in caplog.text
    report = json.loads((lines / "pairs.json").read_text())
    assert report["says"] in caplog.text
    assert report["says"] == (
        "the file has 6 pairs of 11 clips: 3 of train prompts; held out 1 of validation and 1 of "
        "test prompts; 1 with an unreadable clip; 3 pairs of train prompts compared: 2 have a "
        "winner (0 of them against a dimension), 1 are ties, 0 have judges who disagree, 0 are "
        "invalid, 0 have no verdict that counts; 2 rows train"
    )
    assert "weights are visual_quality 0.5, motion_quality 0.5" in caplog.text
    assert "a pair prefers the clip with the larger weighted sum of verdicts" in report["rule"]
    file = report["file"]
    parts = [file[name] for name in ("train", "validation", "test", "unreadable")]
    assert (file["pairs"], file["verdicts"], parts) == (6, 12, [3, 1, 1, 1])
    assert file["train"] == report["compared"]
    assert (file["clips"], file["unreadable_clips"]) == (11, 1)
    assert (report["rows"], report["weights"]["motion_quality"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("pairs", "batch", "warning"),
    [
        (49, 8, "only 49 rows train: fewer than 50 do not tell a preference from chance"),
        (50, 64, "only 50 rows train: a batch has 64 (align.train.batch_size)"),
        (2, 8, "only 2 rows train: fewer than 50 do not .*; a batch has 8"),
        (50, 50, ""),
    ],
)
def test_a_warning_where_too_few_train(tmp_path, caplog, pairs, batch, warning):
    write_lines(
        tmp_path,
        [
            (prompt, 2 * i, 2 * i + 1, {"overall": "A"})
            for i, prompt in enumerate(prompts("train", pairs))
        ],
    )
    settings = config("preferred")
    settings.train.batch_size = batch
    build(row_inputs(tmp_path), settings)
    said = json.loads((tmp_path / "pairs.json").read_text())["warning"]
    assert re.fullmatch(warning.replace("(", r"\(").replace(")", r"\)") + ".*", said)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ([f"align: {said}"] if warning else [])
    assert bool(said) == bool(warning)


def write_pairs(folder, pairs, scores=None):
    """A VideoDPO folder of (prompt, winner, loser, numbers); `scores` by clip."""
    clips = {n: prompt for prompt, winner, loser, _ in pairs for n in (winner, loser)}
    places = {n: place for place, n in enumerate(clips)}
    for n in clips:
        (folder / f"{n}.mp4").touch()
    metadata = [
        {
            "basic": {"clip_path": f"{n}.mp4"} | ({"score": scores[n]} if scores else {}),
            "misc": {"frame_caption": [prompt]},
        }
        for n, prompt in clips.items()
    ]
    listed = [
        {"video1": places[a], "video2": places[b], "frame_caption": prompt, **numbers}
        for prompt, a, b, numbers in pairs
    ]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / "pair.json").write_text(json.dumps(listed))
    return folder


def gaps_of(folder, settings, **given):
    rows, found = build(row_inputs(folder, pairs="", **given), settings)
    gaps = {tuple(numbers): reward[0] - reward[1] for numbers, reward in found}
    return rows, gaps, json.loads((folder / "pairs.json").read_text())["gaps"]


NUMBERS = [
    (RED, 1, 0, {"score": 0.125, "diff_score": 0.5}),
    (RED, 2, 0, {"score": 0.75, "diff_score": 0.25}),
    (BLUE, 3, 4, {"score": 0.5, "diff_score": -0.25}),
    (TEST, 5, 6, {}),
]


def test_scores_of_a_videodpo_folder_reach_training(tmp_path):
    write_pairs(tmp_path, NUMBERS)
    settings = config("preferred", pair_weight="probability")
    rows, gaps, counts = gaps_of(tmp_path, settings)
    assert gaps == {(1, 0): 0.5, (2, 0): 0.25, (3, 4): 0.0}
    assert counts == {"stated": 3, "contradicting": 1}
    (batch,) = itertools.islice(training_batches(rows, batch_size=3, seed=0), 1)
    assert (batch["pair_score"].dtype, batch["pair_score"].shape) == (np.float32, (3,))
    scores = {
        tuple(clips[:, 0, 0, 0, 0].astype(int)): score
        for clips, score in zip(batch["clips"], batch["pair_score"], strict=True)
    }
    assert scores == {(1, 0): 0.125, (2, 0): 0.75, (3, 4): 0.5}


def test_pairs_far_apart_weigh_more(tmp_path):
    """The rows' labels in the objective: VideoDPO's (0.72 / p)^a, and (gap / reference)^a."""
    write_pairs(tmp_path, NUMBERS)
    given = row_inputs(tmp_path, pairs="")
    for weight, by_hand in (
        ("probability", [0.72 / 0.125, 0.72 / 0.75, 0.72 / 0.5]),
        ("gap", [0.5 / 0.72, 0.25 / 0.72, 0.0]),
    ):
        fields = {"pair_weight": weight, "pair_weight_reference": 0.72, "pair_weight_power": 0.5}
        rows, found = build(given, config("preferred", **fields))
        order = [[[1, 0], [2, 0], [3, 4]].index(numbers) for numbers, _ in found]
        for i, place in enumerate(order):
            row = rows[i]
            score = row.get("pair_score")
            labels = Labels(
                reward=row["reward"][None], pair_score=None if score is None else score[None]
            )
            zero = jnp.zeros((1, 2))
            errors = Errors(policy=zero, reference=zero, tau=zero[:, 0])
            loss, _ = dpo(errors, labels, beta=1.0, **fields)
            np.testing.assert_allclose(loss, np.log(2) * by_hand[place] ** 0.5, rtol=1e-5)
            assert (score is None) == (weight == "gap")


def test_gaps_are_stated_by_all_pairs_or_by_none(tmp_path):
    partly = [(p, a, b, {} if a == 2 else numbers) for p, a, b, numbers in NUMBERS]
    write_pairs(tmp_path, partly)
    given = row_inputs(tmp_path, pairs="")
    _, found = build(given, config("preferred"))  # nothing is weighed by them
    assert sorted(numbers for numbers, _ in found) == [[1, 0], [2, 0], [3, 4]]
    for weight, message in (
        ("gap", r"'gap': 1 of 3 pairs state no gap .* the first is 2.mp4 with 0.mp4"),
        ("probability", r"'probability': 1 of 3 pairs have no probability above 0 .* 2.mp4 with 0"),
    ):
        with pytest.raises(ValueError, match=message):
            build(given, config("preferred", pair_weight=weight))


def test_scores_of_the_clips_say_the_gap_where_no_comparison_does(tmp_path, caplog):
    scores = {0: 0.25, 1: 0.875, 2: 0.5, 3: 0.25, 4: 0.5, 5: 1.0, 6: 2.0}
    bare = [(p, a, b, {"score": 0.5}) for p, a, b, _ in NUMBERS]
    write_pairs(tmp_path, bare, scores)
    with caplog.at_level("WARNING"):
        _, gaps, counts = gaps_of(tmp_path, config("preferred", pair_weight="gap"))
    assert gaps == {(1, 0): 0.625, (2, 0): 0.25, (3, 4): 0.0}
    assert counts == {"stated": 3, "contradicting": 1}
    assert "align: 1 of 3 gaps of scores contradict the verdict" in caplog.text


def test_several_losers_have_gaps_of_their_own(tmp_path):
    scores = {0: 0.25, 1: 0.875, 2: 0.5, 3: 0.25, 4: 0.5}
    pairs = [(RED, 1, 0, {}), (RED, 1, 2, {"diff_score": 0.75}), (BLUE, 3, 4, {})]
    write_pairs(tmp_path, pairs, scores)
    given = row_inputs(tmp_path, pairs="")
    _, found = build(given, config("preferred_and_losers", losers=2, pair_weight="gap"))
    assert found == [([1, 0, 2], [0.0, -0.625, -0.75])]
    assert json.loads((tmp_path / "pairs.json").read_text())["gaps"]["stated"] == 2


def test_without_weights_all_dimensions_count_alike(lines):
    given = row_inputs(lines)
    _, found = build(given, config("preferred"))
    assert sorted(found) == [([0, 1], [0.5, 0.0]), ([4, 3], [0.5, 0.0]), ([7, 8], [1.0, 0.0])]
    settings = config("preferred")
    settings.reward.visual_quality = settings.reward.motion_quality = 0.5
    assert build(given, settings)[1] == found


def test_rows_carry_text_shape_and_what_stands_for_no_text(lines):
    given = row_inputs(lines, null_prompt="none")
    settings = config("preferred")
    rows, found = build(given, settings)
    place = given.encoded.place
    for i, (numbers, _) in enumerate(found):
        row, clip = rows[i], f"{numbers[0]}.mp4"
        prompt = next(p for p, a, b, _ in LINES if numbers[0] in (a, b))
        np.testing.assert_array_equal(row["text"], given.texts[prompt][0])
        np.testing.assert_array_equal(row["null_text"], given.texts["none"][0])
        assert "first_frame" not in row
        assert given.data.clips[int(place[clip])]["latent"].flat[0] == numbers[0]
    odd = [numbers[0] % 2 for numbers, _ in found]
    assert (rows.shapes == odd).all()


def test_mcdpo_rows_carry_the_motion_of_each_clip(lines):
    rows, found = build(row_inputs(lines), config("preferred", "mcdpo"))
    for i, (numbers, _) in enumerate(found):
        expected = [[n / 10, n / 100] for n in numbers]
        np.testing.assert_allclose(rows[i]["motion"], expected, rtol=1e-6)


def test_mcdpo_without_motion_scores_is_refused(tmp_path):
    write_lines(tmp_path, LINES, lambda n: {"object_motion": 1.0} if n == 1 else moves(n))
    with pytest.raises(ValueError, match=r"1 of 7 clips have no score for .* first are 1.mp4"):
        build(row_inputs(tmp_path), config("preferred", "mcdpo"))


def test_winners_come_once(lines):
    settings = config("preferred_winners", "sft")
    settings.reward.visual_quality = 1.0
    rows, found = build(row_inputs(lines), settings)
    assert rows.k == 1
    assert sorted(found) == [([0], [1.0]), ([7], [1.0])]


def test_single_clips_are_good_or_bad(lines):
    _, found = build(row_inputs(lines), config("labelled", "kto"))
    # 2 lost and drew in equal parts: neither
    good, bad = [0, 4, 7], [1, 3, 8]
    assert sorted(found) == sorted(([n], [float(n in good)]) for n in (*good, *bad))


def test_winners_with_several_losers(lines):
    settings = config("preferred_and_losers", losers=2)
    settings.reward.visual_quality = 1.0
    rows, found = build(row_inputs(lines), settings)
    assert rows.k == 3
    assert found == [([0, 1, 2], [1.0, 0.0, 0.0])]
    report = json.loads((lines / "pairs.json").read_text())
    assert report["too_few"] == ["7.mp4"]


def test_a_bad_clip_takes_its_comparisons_with_it(lines, caplog):
    with caplog.at_level("WARNING"):
        given = row_inputs(lines, without=("1.mp4", "9.mp4"))
    assert "4 of 12 comparisons have a clip that is bad" in caplog.text
    settings = config("preferred")
    settings.reward.visual_quality = 1.0
    assert sorted(build(given, settings)[1]) == [
        ([0, 2], [1.0, 0.0]),
        ([7, 8], [1.0, 0.0]),
    ]
    numbers = [numbers for numbers, _ in build(given, config("labelled", "kto"))[1]]
    assert [1] not in numbers


def test_nothing_to_learn_from_is_said_in_words(tmp_path):
    write_lines(tmp_path, [line for line in LINES if line[0] in (TEST, VALIDATION)])
    given = row_inputs(tmp_path)
    for settings in (config("preferred"), config("labelled", "kto")):
        with pytest.raises(ValueError, match=r"nothing to learn from: no clip of a train prompt"):
            build(given, settings)


def test_scenes_are_prompts_with_their_split_and_first_clip(lines):
    given = row_inputs(lines)
    for scene in given.data.all_scenes:
        (first, *_) = (a for p, a, _, _ in LINES if p == scene.text)
        assert scene.split == split_of(scene.text, HELD_OUT)
        assert given.data.clips[scene.record]["clip_id"] == f"{first}.mp4"
    assert [scene.text for scene in given.data.scenes("train")] == [RED, BLUE, GREEN]
    assert set(given.data.prompts) == {RED, BLUE, GREEN, TEST, VALIDATION}


def test_real_clips_of_train_prompts_are_mixed_in(lines):
    rows = [("20.mp4", RED, "train"), ("21.mp4", TEST, "train"), ("22.mp4", NEW, "train")]
    write_real(lines, [*rows, ("23.mp4", GREEN, "test"), ("24.mp4", "two\nlines", "train")])
    given = row_inputs(lines, real=True)
    found = real_rows(given, 0)
    numbers = [int(found[i]["clips"].flat[0]) for i in range(len(found))]
    expected = {20, 22} | ({24} if split_of("two lines", HELD_OUT) == "train" else set())
    assert set(numbers) == expected
    assert len(numbers) == len(expected)
    assert all(found[i]["clips"].shape[0] == 1 for i in range(len(found)))
    assert "two lines" in given.data.prompts
    assert len(real_rows(given, 1)) == 1
    with pytest.raises(ValueError, match=r"9 real clips wanted, the data has \d: give a folder"):
        real_rows(given, 9)
    # nobody compared them
    labelled = [numbers[0] for numbers, _ in build(given, config("labelled", "kto"))[1]]
    assert not set(labelled) & {20, 21, 22, 23, 24}


def load(folder, pairs, *overrides, spec="ipo_kto:cogvideox_2b"):
    given = ["text.length=16", "data.frames=9", "data.height=32", "data.width=48"]
    return load_config(spec, [f"model.init={folder}", f"data.pairs={pairs}", *given, *overrides])


def check(*args, **options):
    checks.check(load(*args, **options))


def test_what_is_missing_is_said_before_anything_is_computed(lines, cogvideox_folder):
    file = lines / "pairs.jsonl"
    check(cogvideox_folder, file)
    for overrides, message in (
        (["data.pairs="], "config.data.pairs is empty: give a VideoAlign CSV"),
        (["data.pairs=nowhere.csv"], "data.pairs='nowhere.csv': no such file or folder"),
        (["align.real_weight=0.1"], r"and .*pairs.jsonl has none: give a folder of videos with ca"),
        (["align.real_weight=0.1", "data.real=nowhere"], "data.real='nowhere': no such file"),
        ([f"data.real={lines}"], "data.real is given, but config.align.real_weight mixes none"),
        (["data.buckets=((32,48),(32,40))"], r"the network takes no clips of 32x40: .*\(3, 4, 5\)"),
        (["data.buckets=((32,48),(32,44))"], "9 frames of 32x44 have no latent: .*multiples of 8"),
        (["data.frames=11"], "11 frames of 32x48 have no latent: .*takes 1, 8 n or 8 n . 1"),
        (["align.rows=all"], "learns from clips that a judge scored"),
    ):
        with pytest.raises(ValueError, match=message):
            check(cogvideox_folder, file, *overrides)
    write_real(lines, [("20.mp4", RED, "train")])
    check(cogvideox_folder, file, "align.real_weight=0.1", f"data.real={lines / 'real'}")


@pytest.mark.parametrize(
    ("spec", "folder"),
    [
        ("realdpo:cogvideox_5b_i2v", "image_to_video_folder"),
        ("flow_dpo:wan2_1_i2v_14b", "wan_image_to_video_folder"),
    ],
)
def test_clips_drawn_from_a_first_frame_have_one_size(lines, spec, folder, request):
    given = (request.getfixturevalue(folder), lines / "pairs.jsonl", "align.lora.rank=4")
    check(*given, spec=spec)
    check(*given, "data.buckets=((32,48),)", spec=spec)
    with pytest.raises(ValueError, match=r"buckets: clips are drawn from first frames .* 32x48;"):
        check(*given, "data.buckets=((48,32),)", spec=spec)


def test_batches_that_do_not_divide_over_the_devices_are_filled_up(lines, cogvideox_folder):
    sizes = ("sampler.batch_size=12", "data.encode_batch=3", "align.train.batch_size=8")
    config = load(cogvideox_folder, lines, *sizes, "mesh.fsdp=2", "mesh.context=1")
    recipe = open_recipe(config, lines)
    checks.check_training(config, recipe.mesh)
    assert recipe.drawn_at_once == 16
    assert [filled_up(n, recipe.mesh) for n in (1, 7, 8, 9)] == [8, 8, 8, 16]
