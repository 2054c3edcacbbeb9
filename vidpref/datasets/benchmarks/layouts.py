"""What the fields of public benchmarks of video judges mean.

Read from their cards and from code that reads them:

- VideoGen-RewardBench (KlingTeam): videogen-rewardbench.csv; KwaiVGI/VideoAlign,
  eval_videogen_rewardbench.py.
- GenAI-Bench (TIGER-Lab, config video_generation): the votes of people in an arena; TIGER-AI-Lab's
  evaluation also writes them as A>B, B>A, A=B=Good and A=B=Bad.
- MJ-Bench-Video: aiming-lab/MJ-Video, datas/test.json and scripts/data_processor/dataset.py, where
  video_0_path is "Video 1".
- UnifiedReward's copy of GenAI-Bench, and VisionRewardDB-Video (zai-org): only the names of their
  fields are known to us, not their files; that the prompt of the latter is called `prompt` is a
  guess, which `caption` and `text` stand in for.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from vidpref.datasets.preferences.frames import OVERALL
from vidpref.datasets.preferences.videoalign import DIMENSIONS, LABELS

BOTH_BAD = "both bad"  # a vote that says more than a tie; what it counts as is up to the reader


@dataclasses.dataclass(frozen=True)
class Layout:
    """The fields of a row: two clips of a prompt, and votes.

    Attributes:
        what: the benchmark, for messages.
        paths: fields of the paths of clip A and clip B.
        votes: field -> dimension. A field that holds an object has a vote for each of its names.
        verdicts: what a vote says -> A, B, tie, invalid or `BOTH_BAD`.
        prompt: fields of the prompt; the first that a row has.
        models: fields of what made the clips, where it is told.
        fps: fields of the clips' frames a second, where they are told.
        frames: fields of their numbers of frames.
        discard: field that is true where the row does not count.
    """

    what: str
    paths: tuple[str, str]
    votes: Mapping[str, str]
    verdicts: Mapping[str, str]
    prompt: tuple[str, ...] = ("prompt",)
    models: tuple[str, str] | None = None
    fps: tuple[str, str] | None = None
    frames: tuple[str, str] | None = None
    discard: str = ""


_ARENA = MappingProxyType(
    {
        "leftvote": "A",
        "rightvote": "B",
        "tievote": "tie",
        "bothbad_vote": BOTH_BAD,
        "A>B": "A",
        "B>A": "B",
        "A=B=Good": "tie",
        "A=B=Bad": BOTH_BAD,
    }
)

LAYOUTS = {
    "videogen_rewardbench": Layout(
        "VideoGen-RewardBench, or VideoAlign's CSV",
        ("path_A", "path_B"),
        DIMENSIONS,
        LABELS,
        models=("A_model", "B_model"),
        fps=("fps_A", "fps_B"),
        frames=("num_frames_A", "num_frames_B"),
    ),
    "genai_bench": Layout(
        "GenAI-Bench",
        ("left_video", "right_video"),
        {"vote_type": OVERALL},
        _ARENA,
        models=("left_model", "right_model"),
    ),
    "unified_reward": Layout(
        "UnifiedReward's copy of GenAI-Bench",
        ("video_left", "video_right"),
        {"vote_type": OVERALL},
        _ARENA,
    ),
    "mj_bench_video": Layout(
        "MJ-Bench-Video",
        ("video_0_path", "video_1_path"),
        {"overall_preference": OVERALL, "category_preference": ""},
        {"Video 1 better": "A", "Video 2 better": "B", "Same": "tie"},
        prompt=("caption", "prompt"),
        discard="discard",
    ),
    "vision_reward_db": Layout(
        "VisionRewardDB-Video",
        ("video1_path", "video2_path"),
        {"standard_answer": OVERALL},
        {"video1": "A", "video2": "B", "tie": "tie"},
        prompt=("prompt", "caption", "text"),
    ),
}
