"""benchmarks/mini_clip.py: its losses are the papers', and readers of CLIP read what it writes."""

import jax
import numpy as np
import pytest
import torch
import transformers
from small_clip import folder, held_out, training, world
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vidpref.config.fields import build
from vidpref.config.metrics import Metrics, TextImage
from vidpref.config.schema import Reward
from vidpref.datasets.miniworld import WORDS, prompts
from vidpref.interop.clip_folders import ClipFolder
from vidpref.rewards.registry import build_reward

SIZES = folder.Sizes(width=16, layers=1, heads=2)
PROMPTS = prompts("train")[::40]
TEXTS = [prompt.text for prompt in PROMPTS]
TOLERANCE = 1e-5


def of_torch(found, *arrays):
    """Value, and gradient of the first array, of a loss in PyTorch."""
    tensors = [torch.from_numpy(array) for array in arrays]
    tensors[0].requires_grad_()
    loss = found(*tensors)
    loss.backward()
    return loss.item(), tensors[0].grad.numpy()


def test_losses_are_those_of_torch():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 6)).astype(np.float32)
    cross = torch.nn.functional.cross_entropy
    own = torch.arange(6)
    expected = of_torch(lambda x: (cross(x, own) + cross(x.T, own)) / 2, logits)
    found = jax.value_and_grad(training.contrastive_loss)(logits)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)

    scores = rng.normal(size=(4, 2)).astype(np.float32)
    preferred = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.3, 0.7]], np.float32)

    def divergence(x, p):
        return torch.nn.functional.kl_div(x.log_softmax(1), p, reduction="batchmean")

    expected = of_torch(divergence, scores, preferred)
    found = jax.value_and_grad(training.preference_loss)(scores, preferred)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def test_words_are_tokens_and_others_are_letters(tmp_path):
    source = folder.write_without_weights(tmp_path, SIZES, WORDS)
    tokens = source.tokens()
    text = tokens(["move the red ball to the cyan cone", "xyz"])
    assert (text != tokens.end).sum(axis=1).tolist() == [1 + 8, 1 + 3]
    known = folder.WordTokens(WORDS).vocabulary
    assert [known[i] for i in text[0, :4]] == [folder.START, "move</w>", "the</w>", "red</w>"]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A source, clips of each prompt, parameters before and after some steps, and their folder."""
    root, rng = tmp_path_factory.mktemp("clip"), np.random.default_rng(0)
    source = folder.write_without_weights(root / "source", SIZES, WORDS)
    clips = world.true_clips(PROMPTS, 2, rng)
    before, losses = training.initial(source.module(), 0), []
    settings = {"steps": 40, "learning_rate": 1e-2, "say": lambda step, loss: losses.append(loss)}
    frames = world.captioned_frames(clips, len(PROMPTS), rng)
    after = training.learn_captions(source, before, frames, TEXTS, settings)
    folder.write_clip(root / "clip_score", after, source)
    return root / "clip_score", clips, after, losses


def test_it_learns_and_is_read_back(learnt):
    path, clips, params, losses = learnt
    assert losses[-1] < 0.7 * losses[0]
    read = folder.read_params(ClipFolder(path))
    for ours, theirs in zip(*map(_leaves, (read, params)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)  # half precision
    found = held_out.retrieval(held_out.cosines_of(ClipFolder(path), clips[:, 0], TEXTS))
    assert found["clip"] > 3 / len(PROMPTS)


def _leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_transformers_reads_it_and_sees_the_same(learnt):
    path, clips, _, _ = learnt
    model = transformers.CLIPModel.from_pretrained(path, dtype=torch.float32).eval()
    tokens = transformers.CLIPTokenizer.from_pretrained(path)(TEXTS, padding=True)
    processor = CLIPImageProcessorPil.from_pretrained(path)
    pixels = processor(list(clips[:, 0, 3]), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor(tokens["input_ids"]),
            attention_mask=torch.tensor(tokens["attention_mask"]),
            pixel_values=pixels,
        ).logits_per_image
    expected = (logits / model.logit_scale.exp()).detach().numpy()
    found = held_out.cosines_of(ClipFolder(path), clips[:, 0, 3:4], TEXTS)[:, 0]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_the_reward_reads_it_as_it_is(learnt):
    path, clips, _, _ = learnt
    metrics = Metrics(clip_score=TextImage(folder=str(path)))
    reward = build_reward(build(Reward(name="metrics", dimension="clip_score", metrics=metrics)))
    judged = reward.score(clips[:, 0], TEXTS)
    cosines = held_out.cosines_of(ClipFolder(path), clips[:, 0], TEXTS)
    own = np.einsum("btb->b", cosines)
    np.testing.assert_allclose(judged.scores["clip_score"], own, atol=TOLERANCE)


def test_pairs_are_preferred_as_the_verifier_says():
    rng = np.random.default_rng(0)
    clips, numbers, preferred = world.compared_clips(PROMPTS, 4, rng)
    assert clips.shape[:2] == (4 * len(PROMPTS), 2)
    assert numbers.tolist() == np.repeat(np.arange(len(PROMPTS)), 4).tolist()
    said = {tuple(row) for row in preferred.tolist()}
    assert said == {(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)}
    verifier = build_reward(build(Reward(name="verifier")))
    texts = [TEXTS[number] for number in numbers]
    accepted = [verifier.score(clips[:, side], texts).scores["accept"] for side in range(2)]
    np.testing.assert_array_equal(preferred[:, 0] - preferred[:, 1], accepted[0] - accepted[1])
    shown, asked, wanted = next(world.compared_frames(clips, numbers, preferred, 5, rng))
    assert (shown.shape, asked.shape, wanted.shape) == ((5, 2, 16, 16, 3), (5,), (5, 2))


def test_preferences_are_learnt(learnt):
    path, _, params, _ = learnt
    source, rng = ClipFolder(path), np.random.default_rng(1)
    clips, numbers, preferred = world.compared_clips(PROMPTS, 4, rng)
    frames = world.compared_frames(clips, numbers, preferred, 64, rng)
    losses = []
    settings = {"steps": 60, "learning_rate": 3e-3, "say": lambda step, loss: losses.append(loss)}
    found = training.learn_preferences(source, params, frames, TEXTS, settings)
    folder.write_clip(path.with_name("pick_score"), found, source)
    texts = [TEXTS[number] for number in numbers]
    before, after = (
        held_out.ordered_right(held_out.scores_of(ClipFolder(p), clips, texts), preferred)
        for p in (path, path.with_name("pick_score"))
    )
    assert after > max(before, 0.6)


def test_what_is_said_of_held_out_prompts():
    cosines = np.zeros((3, 2, 3), np.float32)
    cosines[np.arange(3), :, np.arange(3)] = 1.0
    assert set(held_out.retrieval(cosines).values()) == {1.0}
    cosines[0, 1] = (0.0, 3.0, 0.0)  # the last frame of the first clip, and so the whole clip
    found = held_out.retrieval(cosines)
    assert found["frame"] == pytest.approx(5 / 6)
    assert found["last frame"] == found["clip"] == pytest.approx(2 / 3)
    assert found["prompt"] == pytest.approx(2 / 3)  # of the second prompt it is the best clip
    scores = np.array([[2, 1], [1, 2], [1, 1], [0, 9]], np.float32)
    preferred = np.array([[1, 0], [1, 0], [0, 1], [0.5, 0.5]], np.float32)
    assert held_out.ordered_right(scores, preferred) == pytest.approx(0.5)
