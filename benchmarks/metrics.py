"""Speed of the metrics that are rewards: clips a second, at real sizes with random weights.

    JAX_PLATFORMS=cpu python benchmarks/metrics.py
    JAX_PLATFORMS=cpu python benchmarks/metrics.py --metrics=clip_score:ViT-B/16,optical_flow:small
    python benchmarks/metrics.py --frames=16 --height=192 --width=320 --clips=8

A metric is timed as a label stage calls it: bytes in, numbers out, preprocessing and copies
included, without compiling. The text is one prompt for all clips. The table shows the fastest of
the rounds, and the seconds of CPU that a clip took in it, which programs beside it hardly change.
`hps_v3:4` has four of the 28 and 32 layers of its text model and vision tower, at their widths.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from flax.core import meta

from vidpref.interop.clip_folders import abstract_clip
from vidpref.interop.hps_v3 import TOKEN as HPS_TOKEN
from vidpref.interop.hps_v3 import abstract_hps_v3
from vidpref.interop.image_processor import ImageProcessor
from vidpref.interop.raft import RaftFile, abstract_raft, raft_table
from vidpref.interop.safetensors_files import write_tensors
from vidpref.interop.table import tensor_shapes
from vidpref.language.byte_tokenizer import ByteTokenizer
from vidpref.language.chat_tokens import ChatTokens
from vidpref.language.reward_template import PROMPT
from vidpref.models.clip.network import Clip
from vidpref.models.clip.sizes import PUBLISHED as CLIP
from vidpref.models.qwen_vl.configuration import QwenVLConfig
from vidpref.models.qwen_vl.image_reward import QwenVLImageReward
from vidpref.models.qwen_vl.sizes import PUBLISHED
from vidpref.models.raft.network import Raft
from vidpref.models.raft.sizes import PUBLISHED as RAFT
from vidpref.rewards.metrics.aesthetic import AestheticMetric
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.rewards.metrics.hps_v3 import HpsV3Metric
from vidpref.rewards.metrics.measured import Metric
from vidpref.rewards.metrics.optical_flow import OpticalFlowMetric
from vidpref.rewards.metrics.text_image import TextImageMetric
from vidpref.stages.scratch_model import numbers_of_tokens
from vidpref.typing import PyTree

_CASES = flags.DEFINE_list(
    "metrics",
    [
        *(f"clip_score:{name}" for name in CLIP),
        *(f"optical_flow:{name}" for name in RAFT),
        *("aesthetic:ViT-L/14", "hps_v3:4"),
    ],
    "Metric and size of its network.",
)
_CLIPS = flags.DEFINE_integer("clips", 2, "Clips of a call.", lower_bound=1)
_FRAMES = flags.DEFINE_integer("frames", 16, "Frames of a clip.", lower_bound=2)
_HEIGHT = flags.DEFINE_integer("height", 24, "Rows of pixels.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 40, "Columns of pixels.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 8, "Frames or pairs of frames at once.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Of which the fastest counts.", lower_bound=1)

HPS_BASE, HPS_HEAD, HPS_PIXELS = "Qwen2-VL-7B", (1024, 16, 2), 200_704  # of HPSv3's code


class _RandomClip:
    """What `ClipFrames` asks of a folder, with weights made by chance."""

    def __init__(self, name: str):
        self._config = CLIP[name]

    def module(self, **options: str) -> Clip:
        return Clip.from_config(self._config, **options)

    def processor(self, fit: str) -> ImageProcessor:
        return ImageProcessor(self.module().vision.image_size, fit)

    def load(self, target: PyTree) -> PyTree:
        return _by_chance(target)


class _RandomHps:
    """What `HpsV3Metric` asks of a folder."""

    def __init__(self, folder: Path, layers: int):
        tokenizer = ByteTokenizer((HPS_TOKEN,))
        tokenizer.write(folder)
        self.tokens = ChatTokens(folder)
        fields = PUBLISHED[HPS_BASE] | numbers_of_tokens(tokenizer.numbers())
        tower = {**fields["vision_config"], "depth": layers}
        fields |= {"num_hidden_layers": layers, "vision_config": tower}
        self.config = QwenVLConfig.read(fields)

    def module(self, dtype: str) -> QwenVLImageReward:
        return QwenVLImageReward(self.config, HPS_HEAD, attention="auto", dtype=dtype)

    def load(self, module: QwenVLImageReward, target: PyTree) -> PyTree:
        return _by_chance(target)


class _OnePrompt:
    """What `TextImageMetric` asks of a tokenizer."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        tokens = np.full((len(texts), 77), 49407, np.int32)
        tokens[:, :12] = np.arange(12)
        return tokens


def main(argv: Sequence[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    shape = (_CLIPS.value, _FRAMES.value, _HEIGHT.value, _WIDTH.value, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    print(f"{shape[0]} clips of {shape[1]} frames of {shape[2]}x{shape[3]}, {jax.devices()[0]}")
    print(f"{'metric':22} {'parameters':>10} {'clips/s':>8} {'frames/s':>8} {'CPU-s a clip':>12}")
    for case in _CASES.value:
        metric, parameters = _metric(*case.split(":"))
        seconds, busy = _fastest(metric, clips)
        rate = len(clips) / seconds
        print(
            f"{case:22} {parameters / 1e6:9.1f}M {rate:8.3f} {rate * _FRAMES.value:8.2f} "
            f"{busy / len(clips):12.2f}",
            flush=True,
        )


def _metric(name: str, size: str) -> tuple[Metric, int]:
    if name == "optical_flow":
        with tempfile.TemporaryDirectory() as folder:
            file = RaftFile(_write_raft(Path(folder), size))
            metric = OpticalFlowMetric(file, updates=12, batch_size=_BATCH.value)
        return metric, _count(abstract_raft(file.module))
    if name == "hps_v3":
        with tempfile.TemporaryDirectory() as folder:
            model = _RandomHps(Path(folder), int(size))
            metric = HpsV3Metric(
                model,
                (f"{PROMPT} ", ""),
                pixels=(HPS_PIXELS, HPS_PIXELS),
                frames=0,
                batch_size=_BATCH.value,
                dtype="float32",
            )
        return metric, _count(abstract_hps_v3(model.module("float32")))
    model = ClipFrames(
        _RandomClip(size), fit="crop", frames=0, batch_size=_BATCH.value, dtype="float32"
    )
    parameters = _count(abstract_clip(Clip.from_config(CLIP[size])))
    if name == "aesthetic":
        width = CLIP[size]["projection_dim"]
        return AestheticMetric(model, (np.ones((1, width)), np.zeros(1))), parameters
    return TextImageMetric(model, _OnePrompt()), parameters


def _fastest(metric: Metric, clips: np.ndarray) -> tuple[float, float]:
    """Seconds, and seconds of CPU."""
    prompts, times = ["a cat"] * len(clips), []
    metric(clips, prompts)
    for _ in range(_ROUNDS.value):
        start, busy = time.perf_counter(), time.process_time()
        metric(clips, prompts)
        times.append((time.perf_counter() - start, time.process_time() - busy))
    return min(times)


def _write_raft(folder: Path, size: str) -> Path:
    abstract, random = abstract_raft(Raft(**RAFT[size])), np.random.default_rng(0)
    tensors = {
        name: (0.02 * random.normal(size=shape)).astype(np.float32)
        for name, shape in tensor_shapes(abstract, raft_table(abstract)).items()
    }
    return write_tensors(folder, tensors)[0]


def _by_chance(target: PyTree) -> PyTree:
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jax.device_put(0.02 * random.standard_normal(x.shape, np.float32), x.sharding),
        target,
    )


def _count(abstract: PyTree) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(meta.unbox(abstract)))


if __name__ == "__main__":
    app.run(main)
