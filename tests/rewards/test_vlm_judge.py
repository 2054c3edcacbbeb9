"""A local vision-language model as a judge: words it says, and how probable they are."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from tests.language.reward_rows import clip, write_tiny_model
from vidpref.config.fields import build
from vidpref.config.schema import Reward as RewardSection
from vidpref.config.vlm_judge import VlmJudge as VlmJudgeSection
from vidpref.interop.qwen_vl_folders import QwenVLFolder
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.conversation import closing, opening
from vidpref.language.decoding import Answers
from vidpref.language.image_questions import first_tokens
from vidpref.language.patches import Eye
from vidpref.models.qwen_vl.packing import Row, pack
from vidpref.rewards import vlm_judge
from vidpref.rewards.questions import (
    GRADES,
    Question,
    checklist,
    parse_verdict,
    parse_yes_no,
    reasoned,
    reasoned_question,
    verdict_question,
)
from vidpref.rewards.registry import build_reward, check_reward, judge_version
from vidpref.rewards.reward import Reward
from vidpref.rewards.vlm_judge import VlmJudge

QUESTION = verdict_question("{frames} frames: keep {prompt}?")
SMALL = {"min_pixels": 64, "max_pixels": 256, "frames": 3, "dtype": "float32", "batch_size": 8}


def write_model(out):
    return write_tiny_model(out, np.random.default_rng(0), 0.3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder, network and parameters of a tiny Qwen2-VL."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    return out, *write_model(out)


def section(folder, *dimensions, **fields):
    own = VlmJudgeSection(folder=str(folder), **(SMALL | fields))
    return build(
        RewardSection(
            name="vlm_judge", dimension=dimensions[0], dimensions=dimensions, vlm_judge=own
        )
    )


def chances_by_hand(model, frames, text, said=""):
    """Probabilities of all tokens that may come first, or behind what is said, of a row alone that
    transformers' tokenizer made."""
    folder, module, params = model
    eye = Eye.of(module.config, images=(64, 256), videos=(64, 256))
    seen = [eye.image(frame) for frame in frames]
    image = f"<|vision_start|>{'<|image_pad|>' * 4}<|vision_end|>"
    conversation = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"{image * len(frames)}{text}<|im_end|>\n<|im_start|>assistant\n{said}"
    )
    ids = transformers.AutoTokenizer.from_pretrained(folder)(conversation)["input_ids"]
    row = Row(np.array(ids, np.int32), [m for m, _ in seen], [p for _, p in seen])
    logits = module.apply({"params": params}, pack([row], module.config))[0, -1]
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def test_a_soft_score_is_the_softmax_over_the_first_tokens_of_the_words(model):
    judge = VlmJudge({"accept": [QUESTION]}, str(model[0]), answers="probabilities", **SMALL)
    assert isinstance(judge, Reward)
    clips = np.stack([clip(5, seed=i) for i in range(3)])
    prompts = ["a ball", "two red cubes that roll", "x"]
    said = judge.score(clips, prompts)
    assert not said.failures
    for i, prompt in enumerate(prompts):
        chances = chances_by_hand(model, clips[i][[0, 2, 4]], f"3 frames: keep {prompt}?")
        letters = ChatTokens(model[0]).text
        yes, no = (sum(chances[letters(c)[0]] for c in pair) for pair in ("Aa", "Rr"))
        assert said.scores["accept"][i] == pytest.approx(yes / (yes + no), rel=1e-3)
        words = re.fullmatch(
            r"Accept ([\d.]+), Reject ([\d.]+); together ([\d.]+) of all answers", said.reasons[i]
        )
        assert [float(w) for w in words.groups()] == pytest.approx(
            [yes / (yes + no), no / (yes + no), yes + no], rel=0.01
        )
        alone = judge.score(clips[i : i + 1], [prompt])  # with other rows, or none, beside it
        np.testing.assert_allclose(alone.scores["accept"], said.scores["accept"][i], rtol=1e-4)
    assert len(set(said.scores["accept"].tolist())) == 3
    assert str(judge) == "tiny, by the probabilities of its answers"


def test_what_cannot_be_asked_is_a_failure(model):
    judge = VlmJudge(
        {"accept": [QUESTION]}, str(model[0]), answers="probabilities", most_tokens=160, **SMALL
    )
    said = judge.score(np.stack([clip(4)] * 3), ["a ball", " ", "ball " * 40])
    assert said.failures.keys() == {1, 2}
    assert "accept: the prompt is empty" in said.failures[1]
    assert "3 images or videos take 12 tokens and the text" in said.failures[2]
    assert np.isnan(said.scores["accept"][1:]).all()
    assert not np.isnan(said.scores["accept"][0])
    with pytest.raises(ValueError, match="1 clips and 2 prompts"):
        judge.score(clip(4)[None], ["a", "b"])


def test_words_are_read_and_unclear_ones_are_asked_again(model, monkeypatch):
    tokens = ChatTokens(model[0])
    said = {0.0: ["Accept", "Rejected.", "Hm", "Hm", "Accept", "Hm"]}
    said |= {0.7: ["Reject", "Accept or Reject", "no end"]}  # of the three that are left
    rules = []

    def answers(module, params, inputs, key, rule):
        rules.append(rule)
        words = said[rule.temperature]
        words = words + ["?"] * (len(inputs.tokens) - len(words))
        ids = [tokens.text(word) for word in words]
        whole = [own + [rule.pad] * (rule.length - len(own)) for own in ids]
        ended = [word != "no end" for word in words]
        parts = (whole, np.zeros(np.shape(whole)), [len(own) for own in ids], ended)
        return Answers(*(jnp.asarray(part)[:, None] for part in parts))

    monkeypatch.setattr(vlm_judge, "answer", answers)
    judge = VlmJudge({"accept": [QUESTION]}, str(model[0]), retries=1, max_tokens=24, **SMALL)
    found = judge.score(np.stack([clip(3)] * 6), ["a"] * 6)
    np.testing.assert_array_equal(found.scores["accept"], [1, 0, 0, np.nan, 1, np.nan])
    assert found.reasons[:3] == ["Accept", "Rejected.", "Reject"]
    assert found.failures == {
        3: "accept: neither Accept nor Reject: 'Accept or Reject'",
        5: "accept: neither Accept nor Reject: 'no end' (cut off at max_tokens=24)",
    }
    assert [rule.temperature for rule in rules] == [0.0, 0.7]
    assert set(rules[0].end) == {tokens.special("<|im_end|>"), tokens.special("<|endoftext|>")}
    assert tokens.special("<|image_pad|>") in rules[0].forbidden
    assert "tiny in 2 tries each" in str(judge)


def test_a_grade_is_weighed_behind_its_reasoning(model, monkeypatch):
    tokens, reasons = ChatTokens(model[0]), ["it is Good no more", "blurred"]
    texts = [reasoned(reasons[0], "Poor"), "no form", f" {reasoned(reasons[1], 'good')}\n"]

    def answers(module, params, inputs, key, rule):
        said = [f"{texts[0]}Good</answer>", *texts[1:]]  # it goes on behind its answer
        words = said + ["?"] * (len(inputs.tokens) - len(texts))
        ids = [tokens.text(word) for word in words]
        whole = [own + [rule.pad] * (rule.length - len(own)) for own in ids]
        parts = (whole, np.zeros(np.shape(whole)), list(map(len, ids)), [True] * len(ids))
        return Answers(*(jnp.asarray(part)[:, None] for part in parts))

    monkeypatch.setattr(vlm_judge, "answer", answers)
    about = {"quality": "sharp?"}
    asked = {"quality": [reasoned_question("quality", "{prompt} {description}", about)]}
    settings = SMALL | {"retries": 0, "max_tokens": 96, "weighed": True}
    judge = VlmJudge(asked, str(model[0]), answers="reasoned", **settings)
    clips = np.stack([clip(3, seed=i) for i in range(3)])
    found = judge.score(clips, ["a ball"] * 3)
    assert found.failures.keys() == {1}
    for i, reason in zip((0, 2), reasons, strict=True):
        before = f"<think>{reason}</think><answer>"
        chances = chances_by_hand(model, clips[i], "a ball sharp?", before)
        mass = {
            word: sum(chances[id] for id in ids)
            for word, ids in first_tokens(tokens, GRADES).items()
        }
        worth = sum(GRADES[word] * share for word, share in mass.items()) / sum(mass.values())
        assert 0.05 < worth < 0.95
        assert found.scores["quality"][i] == pytest.approx(worth, rel=1e-3)
        first, second = found.reasons[i].splitlines()
        assert first == texts[i].strip()
        assert second.startswith("Good 0.")
    words = VlmJudge(asked, str(model[0]), answers="reasoned", **(settings | {"weighed": False}))
    np.testing.assert_array_equal(words.score(clips, ["a"] * 3).scores["quality"], [0, np.nan, 1])


def test_a_random_model_says_nothing_that_can_be_read(model):
    judge = VlmJudge({"accept": [QUESTION]}, str(model[0]), retries=0, max_tokens=3, **SMALL)
    found = judge.score(np.stack([clip(3), clip(3, seed=1)]), ["a", "b"])
    assert found.failures.keys() == {0, 1}
    for words in found.failures.values():
        assert words.startswith("accept: neither Accept nor Reject: ")


def test_checklists_and_verdicts_with_the_texts_of_the_house(model):
    fields = {"answers": "probabilities", "graded": "checklists", "frames": 2}
    reward = section(model[0], "accept", "text_alignment", **fields)
    assert check_reward(reward) == ("accept", "text_alignment")
    said = build_reward(reward).score(clip(4)[None], ["a ball"])
    lines = said.reasons[0].split("text_alignment: ")[1].splitlines()
    assert len(lines) == 5
    yes = [float(line.partition(",")[0].removeprefix("Yes ")) for line in lines]
    assert said.scores["text_alignment"][0] == pytest.approx(np.mean(yes), abs=1e-4)
    assert len(set(yes)) > 1
    graded = section(model[0], "visual_quality", **fields | {"graded": "grades"})
    assert check_reward(graded) == ("visual_quality",)
    assert judge_version(reward) == judge_version(graded) != ""


def test_an_unclear_question_of_a_list_makes_a_failure(model, monkeypatch):
    list_ = checklist("look", "{prompt}? {question}", {"look": "Is it red?\n\n Is it round?\n"})
    assert [q.text for q in list_] == ["{prompt}? Is it red?", "{prompt}? Is it round?"]
    judge = VlmJudge({"look": list_}, str(model[0]), retries=0, **SMALL)
    told = {"Is it red?": (1.0, "Yes"), "Is it round?": (None, "mumbled")}
    monkeypatch.setattr(
        judge, "_ask", lambda c, p, asked: [told[q.text.partition("? ")[2]] for _, q in asked]
    )
    assert judge.score(clip(2)[None], ["a"]).failures == {0: "look: 1 of 2 questions: mumbled"}
    told["Is it round?"] = (0.0, "No")
    found = judge.score(clip(2)[None], ["a"])
    assert (found.scores["look"][0], found.reasons) == (0.5, ["Yes\nNo"])


@pytest.mark.parametrize(
    ("answer", "worth"), [("Yes.", 1), (" no, it is not", 0), ("**Yes**", 1), ("NO", 0)]
)
def test_yes_and_no(answer, worth):
    assert parse_yes_no(answer) == worth


@pytest.mark.parametrize("answer", ["", "Maybe yes", "Not at all", "yesterday", "nothing"])
def test_neither_yes_nor_no(answer):
    with pytest.raises(ValueError, match="does not begin with Yes or No"):
        parse_yes_no(answer)


def test_words_that_begin_alike_cannot_be_told_apart(model):
    tokens = ChatTokens(model[0])
    letters = {
        word: sorted(tokens.text(c)[0] for c in word[0] + word[0].lower()) for word in GRADES
    }
    assert first_tokens(tokens, GRADES) == letters
    with pytest.raises(ValueError, match="begins 'Good' as another of Good, Great"):
        first_tokens(tokens, ("Good", "Great"))
    alike = {"accept": [Question("{prompt}", {"Good": 1.0, "Great": 0.0}, parse_verdict)]}
    with pytest.raises(ValueError, match="cannot be told apart"):
        VlmJudge(alike, str(model[0]), answers="probabilities", **SMALL)


def test_qwen3_vl_has_no_line_of_the_system(model):
    tokens, config = ChatTokens(model[0]), QwenVLFolder(model[0]).config
    assert tokens.read(opening(tokens, config)).startswith("system\nYou are a helpful assistant.")
    other = dataclasses.replace(config, family="qwen3_vl")
    assert tokens.read(opening(tokens, other)) == "user\n"
    assert tokens.read(closing(tokens)) == "\nassistant\n"


@pytest.mark.parametrize("missing", ["folder", "config.json", "tokenizer", "numbers", "dimension"])
def test_folders_that_cannot_judge(missing, model, tmp_path):
    folder, dimension, message = tmp_path / "model", "accept", "no such folder of a Qwen-VL model"
    if missing == "config.json":
        folder.mkdir()
        message = "config.json"
    elif missing == "tokenizer":
        write_model(folder)
        for path in folder.glob("tokenizer*"):
            path.unlink()
        message = r"model: the tokenizer has no token <\|im_start\|>: is it that of this model"
    elif missing == "numbers":
        write_model(folder)
        config = json.loads((folder / "config.json").read_text()) | {"image_token_id": 270}
        (folder / "config.json").write_text(json.dumps(config))
        message = r"not that of the model: images and videos have .*261, 262\), and .*270, 262\)"
    elif missing == "dimension":
        folder, dimension, message = model[0], "beauty", "the judge has no dimension 'beauty'"
    with pytest.raises(ValueError, match=message):
        check_reward(section(folder, dimension))


def test_a_judge_without_a_folder():
    with pytest.raises(ValueError, match=r"reward\.vlm_judge\.folder is empty"):
        check_reward(section("", "accept"))
