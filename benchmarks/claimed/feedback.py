"""AIF: feedback of a vision-language model against metrics, by both projections, and for long.

In the mini world the model is `aif:mini`'s judge, which learns from the verifier's verdicts of the
run's own clips, and the metrics are a small CLIP and a small PickScore (benchmarks/mini_clip.py),
which, as published ones, are the same for all seeds. The verifier scores the last clips of all.
"""

from claimed.claim import DIMENSIONS, PRETRAINED, PROXY, QUALITY, Claim, Group
from claimed.settings import DPO, DPO_SETTINGS, GRADED_PAIRS, RWR, SFT

# Feedback, as it is called -> as its policies' names end; the judge is AIF's.
_AI, _METRICS = {"AI feedback": "judge"}, {"CLIP": "clip_score", "PickScore": "pick_score"}
FEEDBACKS = _AI | _METRICS
_PROJECTIONS = ("RWR", "DPO")
_SPLITS = {"test": "held-out", "train": "train"}
# Acceptance of test and train prompts by Gemini (AIF Table 2).
_PAPER = {
    PRETRAINED: {"test": 51.56, "train": 53.02},
    SFT: {"test": 47.50, "train": 55.94},
    "rwr_judge": {"test": 50.94, "train": 58.23},
    "rwr_clip_score": {"test": 45.00, "train": 55.31},
    "rwr_pick_score": {"test": 49.69, "train": 55.52},
    "dpo_judge": {"test": 55.00, "train": 56.56},
    "dpo_clip_score": {"test": 54.38, "train": 52.29},
    "dpo_pick_score": {"test": 55.31, "train": 53.02},
}


def _policy(projection: str, feedback: str) -> str:
    return f"{projection.lower()}_{FEEDBACKS[feedback]}"


def _variants() -> dict[str, tuple[str, ...]]:
    found = {"rwr_judge": ("aif",), "dpo_judge": ("aif", *DPO_SETTINGS, GRADED_PAIRS)}
    for metric, name in _METRICS.items():
        own = ("reward.name=metrics", f"reward.dimension={name}", "evaluate.verifier=True")
        found[_policy("RWR", metric)] = (RWR, *own)
        found[_policy("DPO", metric)] = (DPO, *own, GRADED_PAIRS)
    return found


def _claim(text: str, policy: str, baseline: str, split: str = "test") -> Claim:
    numbers = [_PAPER[name][split] for name in (policy, baseline)]
    said = "{:.2f} against {:.2f} % (AIF Table 2)".format(*numbers)
    more = (*QUALITY, "object_motion")
    return Claim(
        f"{text}, {_SPLITS[split]} prompts", said, policy, baseline, "accept", more, split=split
    )


def _claims() -> list[Claim]:
    found = []
    for split in _SPLITS:
        for name in _PROJECTIONS:
            ours = _policy(name, "AI feedback")
            for metric in _METRICS:
                text = f"{name} on AI feedback beats {name} on {metric}"
                found.append(_claim(text, ours, _policy(name, metric), split))
            found.append(_claim(f"{name} on AI feedback beats SFT", ours, SFT, split))
    for feedback in FEEDBACKS:
        forward, reverse = (_policy(name, feedback) for name in _PROJECTIONS)
        for name, policy in zip(_PROJECTIONS, (forward, reverse), strict=True):
            found.append(_claim(f"{name} on {feedback} improves", policy, PRETRAINED))
        found.append(_claim(f"DPO beats RWR on {feedback}", reverse, forward))
    for name, truth in (("RWR", RWR), ("DPO", DPO)):
        text = f"{name} on the truth beats {name} on AI feedback, held-out prompts"
        found.append(Claim(text, "ours: no paper has it", truth, _policy(name, "AI feedback")))
    return found


VARIANTS = _variants()
FEEDBACK = Group(
    (DPO, RWR, SFT, *VARIANTS),
    tuple(_claims()),
    overrides=(f"reward.dimensions={DIMENSIONS}",),
    variants=VARIANTS,
)

_ON_PROXY = _policy("DPO", "PickScore")
# Steps of DPO on PickScore -> policy; 300 are the config's own, of which clips of other prompts
# are scored here than above.
STEPS = {steps: f"{_ON_PROXY}_{steps}" for steps in (100, 300, 900)}
DRAWN = {
    PROXY: "PickScore: clips of the pre-trained generator that score less",
    "accept": "acceptance",
    "text_alignment": "text alignment",
    "object_motion": "object motion",
}
_FALLS = "DPO-HPSv2: the share of accepted clips falls with the steps (AIF Figure 7)"

FEEDBACK_STEPS = Group(
    tuple(STEPS.values()),
    (
        Claim(
            "More steps of DPO on PickScore raise it further",
            "DPO-HPSv2: HPSv2 rises with the steps (AIF Figure 7)",
            STEPS[900],
            STEPS[100],
            PROXY,
            unstable=True,
        ),
        Claim(
            "while fewer steps are accepted more",
            _FALLS,
            STEPS[100],
            STEPS[900],
            others=("text_alignment", "visual_quality", "object_motion"),
            unstable=True,
        ),
        Claim(
            "and the pre-trained generator more than many",
            _FALLS,
            PRETRAINED,
            STEPS[900],
            unstable=True,
        ),
    ),
    variants={
        name: (*VARIANTS[_ON_PROXY], f"align.train.steps={steps}") for steps, name in STEPS.items()
    },
)
