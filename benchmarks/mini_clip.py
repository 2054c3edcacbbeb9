"""Trains a small CLIP of the mini world, and of it a small PickScore, as a user would bring them.

    JAX_PLATFORMS=cpu python benchmarks/mini_clip.py --out=metrics                 # OUT/clip_score
    JAX_PLATFORMS=cpu python benchmarks/mini_clip.py --out=metrics --preferences   # OUT/pick_score

The first learns from frames of rendered clips and their prompts, by CLIP's symmetric loss (Radford
et al. 2021, section 2.3). The second goes on from it with PickScore's loss (Kirstain et al. 2023,
section 3), on frames of two clips of a prompt of which the verifier prefers the one that it
accepts. Both see train prompts alone. What is written are folders of transformers, which
`config.reward.metrics.clip_score.folder` and `pick_score.folder` take. The program prints what
those folders say of held-out prompts.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from vidpref.runs import command_line as program

_OUT = flags.DEFINE_string("out", None, "Folder of both models' folders.", required=True)
_PREFERENCES = flags.DEFINE_bool("preferences", False, "Trains PickScore, from the CLIP in OUT.")
_STEPS = flags.DEFINE_integer("steps", 600, "Steps of training.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 128, "Frames, or pairs, of a step.", lower_bound=2)
_CLIPS = flags.DEFINE_integer("clips_per_prompt", 8, "Clips, or pairs, a prompt.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Highest; PickScore's is a tenth of it.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of clips, weights and order.", lower_bound=0)

CLIP, PICK = "clip_score", "pick_score"


def main(overrides: Sequence[str]) -> None:
    if overrides:
        raise app.UsageError(f"--config.{overrides[0]}: there is no config here")
    out, preferences = Path(_OUT.value), _PREFERENCES.value
    folder = out / (PICK if preferences else CLIP)
    if folder.exists():
        raise app.UsageError(f"{folder} is there already: remove it, or give another --out")
    (_train_on_preferences if preferences else _train_on_captions)(out)


def _train_on_captions(out: Path) -> None:
    import numpy as np
    from small_clip import held_out, training, world
    from small_clip.folder import Sizes, write_clip, write_without_weights

    from vidpref.datasets.miniworld import WORDS, prompts
    from vidpref.interop.clip_folders import ClipFolder

    rng = np.random.default_rng([_SEED.value, 0])
    seen, other = prompts("train"), prompts("test")
    with tempfile.TemporaryDirectory() as folder:
        source = write_without_weights(Path(folder), Sizes(), WORDS)
        clips = world.true_clips(seen, _CLIPS.value, rng)
        frames = world.captioned_frames(clips, _BATCH.value, rng)
        params = training.initial(source.module(), _SEED.value)
        params = training.learn_captions(
            source, params, frames, [p.text for p in seen], _settings(_RATE.value)
        )
        write_clip(out / CLIP, params, source)
    shown = world.true_clips(other, 1, rng)[:, 0]
    cosines = held_out.cosines_of(ClipFolder(out / CLIP), shown, [p.text for p in other])
    found = held_out.retrieval(cosines)
    said = ", ".join(f"{name} {100 * value:.1f} %" for name, value in found.items())
    print(f"found among {len(other)} held-out prompts (chance {100 / len(other):.1f} %): {said}")


def _train_on_preferences(out: Path) -> None:
    import numpy as np
    from small_clip import held_out, training, world
    from small_clip.folder import read_params, write_clip

    from vidpref.datasets.miniworld import prompts
    from vidpref.interop.clip_folders import ClipFolder

    source = ClipFolder(out / CLIP)
    rng = np.random.default_rng([_SEED.value, 1])
    seen, other = prompts("train"), prompts("test")
    clips, numbers, preferred = world.compared_clips(seen, _CLIPS.value, rng)
    frames = world.compared_frames(clips, numbers, preferred, _BATCH.value, rng)
    params = training.learn_preferences(
        source, read_params(source), frames, [p.text for p in seen], _settings(_RATE.value / 10)
    )
    write_clip(out / PICK, params, source)
    clips, numbers, preferred = world.compared_clips(other, 4, rng)
    decided = int((preferred[:, 0] != preferred[:, 1]).sum())
    print(
        f"of {decided} held-out pairs the verifier accepts one clip; ordered right (chance 50 %):"
    )
    for name in (CLIP, PICK):
        scores = held_out.scores_of(
            ClipFolder(out / name), clips, [other[number].text for number in numbers]
        )
        print(f"{name} {100 * held_out.ordered_right(scores, preferred):.1f} %")


def _settings(learning_rate: float) -> dict:
    def say(step: int, loss: float) -> None:
        print(f"step {step}: loss {loss:.3f}", flush=True)

    return {"steps": _STEPS.value, "learning_rate": learning_rate, "say": say}


if __name__ == "__main__":
    program.launch(main)
