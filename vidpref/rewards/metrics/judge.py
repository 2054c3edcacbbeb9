"""A judge whose dimensions are metrics, each by a network and a linear transform of its own."""

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from vidpref.config.metrics import METRICS
from vidpref.config.nearest import nearest
from vidpref.interop.clip_folders import ClipFolder
from vidpref.interop.hps_v3 import HpsV3Folder
from vidpref.interop.raft import RaftFile
from vidpref.rewards.metrics.aesthetic import AestheticMetric, read_head
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.rewards.metrics.hps_v3 import HpsV3Metric, read_template
from vidpref.rewards.metrics.measured import Metric
from vidpref.rewards.metrics.optical_flow import OpticalFlowMetric
from vidpref.rewards.metrics.text_image import FITS, TextImageMetric
from vidpref.rewards.reward import Judgement
from vidpref.typing import Array, UInt8

_NEEDED = {  # fields of a metric's section that say where its network lies
    **dict.fromkeys(FITS, ("folder",)),
    "hps_v3": ("folder", "template"),
    "optical_flow": ("weights",),
    "aesthetic": ("folder", "head"),
}


class Metrics:
    """Scores clips by `eta r + gamma` of every metric r (AIF 3.2).

    Args:
        metrics: by dimension.
        transforms: (eta, gamma) of each.
    """

    def __init__(
        self, metrics: Mapping[str, Metric], transforms: Mapping[str, tuple[float, float]]
    ):
        self.dimensions = tuple(metrics)
        self._metrics, self._transforms = metrics, transforms

    def __str__(self) -> str:
        return f"the metrics {', '.join(self.dimensions)}"

    def score(self, clips: UInt8[Array, "b t h w c"], prompts: Sequence[str]) -> Judgement:
        """Judges clips; one that a metric cannot measure is a failure.

        The reasons are the metrics before their transforms.

        Raises:
            ValueError: not as many prompts as clips.
        """
        if len(clips) != len(prompts):
            raise ValueError(f"{len(clips)} clips and {len(prompts)} prompts")
        scores, failures = {}, {}
        reasons: list[list[str]] = [[] for _ in prompts]
        for name, metric in self._metrics.items():
            measured = metric(clips, prompts)
            eta, gamma = self._transforms[name]
            values = np.asarray(measured.values, np.float32)
            for i, value in enumerate(values):
                if np.isfinite(value):
                    reasons[i].append(f"{name} {value:.4f} over {measured.of}")
                else:
                    why = measured.failures.get(i, "the network gave a value that is not finite")
                    failures.setdefault(i, f"{name}: {why}")
            finite = np.where(np.isfinite(values), values, np.nan)
            scores[name] = (eta * finite + gamma).astype(np.float32)
        return Judgement(scores, ["; ".join(said) for said in reasons], failures)


def build_metrics(section: ConfigDict, dimensions: Sequence[str]) -> Metrics:
    """Returns the judge.

    Args:
        section: the config's `reward.metrics` section.
        dimensions: names of metrics.

    Raises:
        ValueError: no such metric, or a network that is not there or another than is meant.
    """
    _check_named(section, dimensions)
    transforms = {name: (section[name].eta, section[name].gamma) for name in dimensions}
    return Metrics({name: _metric(section, name) for name in dimensions}, transforms)


def check_metrics(section: ConfigDict, dimensions: Sequence[str]) -> None:
    """Refuses what `build_metrics` would; of weights only names and shapes are read."""
    _check_named(section, dimensions)
    for name in dimensions:
        own = section[name]
        if name == "optical_flow":
            RaftFile(own.weights)
            continue
        if name == "hps_v3":
            HpsV3Folder(own.folder)
            read_template(own.template)
            continue
        folder = ClipFolder(own.folder)
        folder.check()
        folder.processor(FITS.get(name, "crop"))
        if name in FITS:
            folder.tokens(own.tokenizer)
        else:
            read_head(own.head, folder.module().projection_dim)


def _check_named(section: ConfigDict, dimensions: Sequence[str]) -> None:
    for name in dimensions:
        if name not in METRICS:
            raise ValueError(
                f"config.reward.dimension: no metric {name!r}; {nearest(name, METRICS)}"
            )
        for field in _NEEDED[name]:
            if not section[name][field]:
                raise ValueError(
                    f"config.reward.metrics.{name}.{field} is empty: say where the weights of "
                    f"{name} lie (README, 'Metrics as rewards')"
                )


def _metric(section: ConfigDict, name: str) -> Metric:
    own = section[name]
    if name == "optical_flow":
        return OpticalFlowMetric(
            RaftFile(own.weights), updates=own.updates, batch_size=own.batch_size
        )
    if name == "hps_v3":
        return HpsV3Metric(
            HpsV3Folder(own.folder),
            read_template(own.template),
            pixels=(own.min_pixels, own.max_pixels),
            frames=section.frames,
            batch_size=own.batch_size,
            dtype=own.dtype,
        )
    folder = ClipFolder(own.folder)
    model = ClipFrames(
        folder,
        fit=FITS.get(name, "crop"),
        frames=section.frames,
        batch_size=section.batch_size,
        dtype=section.dtype,
    )
    if name in FITS:
        return TextImageMetric(model, folder.tokens(own.tokenizer))
    return AestheticMetric(model, read_head(own.head, model.width))
