"""The judge's error rates on the mini world. Its limits were chosen on other seeds."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage

from vidpref.datasets.miniworld import (
    CAMERA_PROMPTS,
    DEFECTS,
    PROMPTS,
    defective_scene,
    prompts,
    render,
    render_batch,
    scene,
)
from vidpref.datasets.miniworld.actions import ACTIONS
from vidpref.datasets.miniworld.defects import CAMERA_DEFECTS, possible, pretraining_examples
from vidpref.datasets.miniworld.vocabulary import SENTENCES
from vidpref.rewards.reward import Reward
from vidpref.rewards.verifier import RULES, Verifier

CLIPS = {"base": 2000, "camera": 500}
FIRST_SEED = 7_000_000


def _cycle(pool, count=CLIPS["base"]):
    order = np.random.default_rng(123).permutation(len(pool))
    chosen = itertools.islice(itertools.cycle(order), count)
    return [(pool[i], FIRST_SEED + n) for n, i in enumerate(chosen)]


WORLDS = {"base": PROMPTS, "camera": CAMERA_PROMPTS}
JUDGE = Verifier(("accept",))


@pytest.fixture(scope="module", params=WORLDS)
def true_clips(request):
    cases = _cycle(WORLDS[request.param], CLIPS[request.param])
    return render_batch([scene(p, seed) for p, seed in cases]), [p for p, _ in cases]


def _rate(clips, texts):
    return float(JUDGE.score(clips, texts).scores["accept"].mean())


def _failures(clips, texts):
    verdicts = JUDGE.verdicts(clips, texts)
    return {RULES[v]: int((verdicts == v).sum()) for v in np.unique(verdicts)}


def test_verifier_is_a_reward():
    assert isinstance(Verifier(), Reward)


@pytest.mark.parametrize("splits", [("train", "validation"), ("test",)])
def test_true_clips_are_accepted(splits):
    cases = _cycle([p for split in splits for p in prompts(split, camera=True)])
    clips = render_batch([scene(p, seed) for p, seed in cases])
    texts = [p.text for p, _ in cases]
    assert _rate(clips, texts) >= 0.995, _failures(clips, texts)


def test_true_pans_are_accepted():
    cases = _cycle(CAMERA_PROMPTS, CLIPS["camera"])
    clips = render_batch([scene(p, seed) for p, seed in cases])
    texts = [p.text for p, _ in cases]
    assert _rate(clips, texts) >= 0.995, _failures(clips, texts)


def test_verdicts_do_not_change_between_releases():
    """How many of a fixed sample each rule refuses: published numbers rest on these verdicts."""
    examples = pretraining_examples(600)
    clips = render_batch([e.scene() for e in examples])
    texts = [e.prompt.text for e in examples]
    counts = np.bincount(JUDGE.verdicts(clips, texts), minlength=len(RULES))
    np.testing.assert_array_equal(counts[:7], [454, 5, 74, 38, 22, 7, 0])
    assert counts[7:].sum() == 0  # the rules that came later refuse none of these examples
    counts = np.bincount(JUDGE.verdicts(clips, texts[1:] + texts[:1]), minlength=len(RULES))
    np.testing.assert_array_equal(counts, [0, 527, 48, 16, 7, 2, *[0] * (len(RULES) - 6)])


def test_wrong_action_prompts_are_refused(true_clips):
    """The same objects and material under other actions that take no more objects."""
    clips, cases = true_clips
    index, texts = [], []
    for i, prompt in enumerate(cases):
        for action in list(ACTIONS)[i % 4 :: 4]:  # every pair of actions many times over
            objects = 2 if SENTENCES[action].pair else 1
            if action != prompt.action and objects <= len(prompt.objects):
                meaning = dataclasses.replace(
                    prompt.meaning,
                    action=action,
                    objects=prompt.objects[:objects],
                    material="" if objects == 2 else prompt.material or "grey",
                )
                index.append(i)
                texts.append(meaning.text)
    assert len(texts) > 2 * len(cases)
    accepted = _rate(clips[index], texts)
    print(f"accepted under a wrong-action prompt: {accepted:.4%} of {len(texts)}")
    assert accepted <= 0.005


def test_wrong_objects_are_refused(true_clips):
    """Another colour or another shape in the prompt than in the clip."""
    clips, cases = true_clips
    for field, values in (
        (0, ("red", "green", "blue", "yellow", "pink", "cyan")),
        (1, ("ball", "brick", "cone")),
    ):
        texts = []
        for i, prompt in enumerate(cases):
            first = list(prompt.objects[0])
            taken = {first[field], *(o[field] for o in prompt.objects if field == 0)}
            others = [v for v in values if v not in taken]
            first[field] = others[i % len(others)]
            meaning = dataclasses.replace(
                prompt.meaning, objects=(tuple(first), *prompt.objects[1:])
            )
            texts.append(meaning.text)
        assert _rate(clips, texts) <= 0.005


@pytest.mark.parametrize(
    ("world", "defect"),
    [("base", defect) for defect in sorted(DEFECTS) if defect not in CAMERA_DEFECTS]
    + [("camera", defect) for defect in sorted(DEFECTS) if defect != "wrong_object"],
)
def test_defects_are_refused(world, defect):
    cases = _cycle([p for p in WORLDS[world] if possible(defect, p)], CLIPS[world])
    clips = render_batch([defective_scene(p, seed, defect) for p, seed in cases])
    accepted = _rate(clips, [p.text for p, _ in cases])
    print(f"false accepts, {world:6s} {defect:14s} {accepted:.2%} of {len(clips)}")
    assert accepted <= 0.02


@pytest.mark.parametrize(
    ("noise", "softness", "least"), [(0.04, 0.0, 0.97), (0.06, 0.0, 0.95), (0.04, 0.5, 0.95)]
)
def test_noise_and_softness_of_generators_are_forgiven(true_clips, noise, softness, least):
    clips, cases = true_clips
    rng = np.random.default_rng(FIRST_SEED)
    soft = clips / np.float32(255)
    if softness:
        soft = ndimage.gaussian_filter(soft, (0, 0, softness, softness, 0), mode="nearest")
    soft += noise * rng.standard_normal(clips.shape, np.float32)
    rough = np.rint(255 * np.clip(soft, 0, 1)).astype(np.uint8)
    texts = [p.text for p in cases]
    assert _rate(rough, texts) >= least, _failures(rough, texts)


def test_larger_clips_are_judged_alike():
    cases = _cycle((*PROMPTS, *CAMERA_PROMPTS), 200)
    large = render_batch([scene(p, seed) for p, seed in cases], scale=2)
    assert _rate(large, [p.text for p, _ in cases]) == 1.0


def test_a_verdict_does_not_depend_on_the_other_clips(true_clips):
    clips, cases = true_clips
    bad = render_batch([defective_scene(p, 1, "shape") for p in cases[:40]])
    mixed = np.concatenate([clips[:40], bad])
    texts = [p.text for p in cases[:40]] * 2
    together = JUDGE.verdicts(mixed, texts)
    alone = [JUDGE.verdicts(c[None], [t])[0] for c, t in zip(mixed, texts, strict=True)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("defect", "word"),
    [("static", "path"), ("shape", "shape"), ("flicker", "sight"), ("vanish", "sight")],
)
def test_the_reason_is_the_rule_that_a_clip_breaks(defect, word):
    prompt = next(p for p in PROMPTS if p.action == "right")
    clips = np.stack([render(scene(prompt, 3)), render(defective_scene(prompt, 3, defect))])
    good, bad = JUDGE.score(clips, [prompt.text] * 2).reasons
    assert good == "accepted"
    assert bad.startswith(f"{word}: ")


def test_garbage_is_refused_and_does_not_warn():
    texts = [p.text for p in (*PROMPTS, *CAMERA_PROMPTS)[::9]]
    rng = np.random.default_rng(0)
    shape = (len(texts), 8, 16, 16, 3)
    garbage = [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)]
    garbage.append(rng.integers(0, 256, shape, np.uint8))
    with np.errstate(all="raise", under="ignore"):
        for clips in garbage:
            assert _rate(clips, texts) == 0


def test_errors_say_what_is_wrong():
    clips = np.zeros((1, 8, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="'dance'"):
        JUDGE.score(clips, ["dance"])
    with pytest.raises(ValueError, match="1 clips but 2 prompts"):
        JUDGE.score(clips, [PROMPTS[0].text] * 2)
    for wrong in (clips[:, :7], clips[:, :, :15], np.zeros((1, 8, 24, 24, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"\[b, 8, 16, 16, 3\]"):
            JUDGE.score(wrong, [PROMPTS[0].text])
