"""Which metrics there are, the measure that each is made of, and the weights that it needs."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidpref.config.nearest import nearest
from vidpref.digests import digest_files, files_below
from vidpref.evaluation.vbench_dimensions import consistency
from vidpref.interop.clip_folders import ClipFolder, abstract_clip
from vidpref.interop.convolutional import ConvolutionalFile
from vidpref.interop.image_processor import ImageProcessor
from vidpref.interop.raft import RaftFile
from vidpref.interop.vision_encoders import DINO, IMAGENET, VIDEOMAE, EncoderFolder
from vidpref.models.amt import Amt
from vidpref.models.i3d import I3d
from vidpref.models.inception import Inception
from vidpref.models.musiq import Musiq
from vidpref.rewards.metrics.aesthetic import read_head
from vidpref.rewards.metrics.frames import ClipFrames
from vidpref.storage.copies import here
from vidpref.video_metrics.clip_values import (
    ClipScore,
    OfFrames,
    TemporalFlickering,
    aesthetic_value,
    imaging_value,
)
from vidpref.video_metrics.features import I3dFeatures, InceptionFrames, VideoMaeFeatures
from vidpref.video_metrics.looks import Look, at_most
from vidpref.video_metrics.measure import Measure
from vidpref.video_metrics.motion import DynamicDegree, MotionSmoothness

_LONGEST = 512  # pixels of a side that VBench's imaging quality looks at


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a set of clips.

    Attributes:
        measure: what is measured of each clip.
        kind: what becomes of it: "distance" from the reference, "inception_score", or a number a
            clip, whose mean counts: a "rate" of 0 or 1, or a "mean".
        places: names of the fields of `Places` that it needs.
        higher: whether more is better.
        bounds: smallest and largest value of a clip.
    """

    measure: str
    kind: str
    places: tuple[str, ...] = ()
    higher: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)


METRICS = {
    "fvd_videomae": Metric("videomae", "distance", ("videomae",), higher=False),
    "fvd_i3d": Metric("i3d", "distance", ("i3d",), higher=False),
    "fid": Metric("inception", "distance", ("inception",), higher=False),
    "is": Metric("inception", "inception_score", ("inception",)),
    "clip_score": Metric("clip_score", "mean", ("clip",), bounds=(-1.0, 1.0)),
    "temporal_flickering": Metric("temporal_flickering", "mean"),
    "dynamic_degree": Metric("dynamic_degree", "rate", ("raft",)),
    "subject_consistency": Metric("subject_consistency", "mean", ("dino",)),
    "background_consistency": Metric("background_consistency", "mean", ("clip_b32",)),
    "aesthetic_quality": Metric("aesthetic_quality", "mean", ("clip_l14", "aesthetic_head")),
    "motion_smoothness": Metric("motion_smoothness", "mean", ("amt",)),
    "imaging_quality": Metric("imaging_quality", "mean", ("musiq",)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where weights lie; "" where they are not at hand.

    Attributes:
        videomae: folder of a VideoMAE model of transformers.
        i3d: safetensors file of pytorch-i3d.
        inception: safetensors file of pytorch-fid's Inception-V3.
        clip: folder of the CLIP model of the CLIP score.
        clip_b32: folder of CLIP ViT-B/32.
        clip_l14: folder of CLIP ViT-L/14.
        aesthetic_head: safetensors file of LAION's linear head on it.
        dino: folder of DINO ViT-B/16 of transformers.
        raft: safetensors file of torchvision's RAFT.
        musiq: safetensors file of pyiqa's MUSIQ.
        amt: safetensors file of AMT-S.
    """

    videomae: str = ""
    i3d: str = ""
    inception: str = ""
    clip: str = ""
    clip_b32: str = ""
    clip_l14: str = ""
    aesthetic_head: str = ""
    dino: str = ""
    raft: str = ""
    musiq: str = ""
    amt: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How clips are looked at.

    Attributes:
        fvd_frames: frames of a clip that I3D sees, from the first on; VideoMAE has a number.
        fvd_stride: step from frame to frame of both.
        i3d_epsilon: see `I3d`.
        image_frames: frames of a clip, evenly spaced, for FID and Inception Score; 0: all.
        clip_frames: the same for the CLIP score.
        batch_size: clips, frames or pairs of frames at once.
    """

    fvd_frames: int = 16
    fvd_stride: int = 1
    i3d_epsilon: float = 1e-3
    image_frames: int = 16
    clip_frames: int = 0
    batch_size: int = 8


def check_metrics(names: Sequence[str], places: Places) -> None:
    """Refuses metrics that are not known, twice there, or whose weights are not given.

    Raises:
        ValueError: names all that is wrong.
    """
    wrong = [
        f"--metrics: no metric {name!r}; {nearest(name, METRICS)}"
        for name in names
        if name not in METRICS
    ]
    wrong += [f"{name} stands twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    for name in dict.fromkeys(names):
        for place in METRICS[name].places if name in METRICS else ():
            if not getattr(places, place):
                wrong.append(f"{name} needs weights: give --{place}")
    if wrong:
        raise ValueError("; ".join(wrong))


def build_measures(
    names: Sequence[str], places: Places, settings: Settings
) -> Mapping[str, Measure]:
    """Returns the measures that metrics need, by name, with their networks on the devices.

    Args:
        names: names of metrics, checked.
        places: where weights lie.
        settings: how clips are looked at.

    Raises:
        ValueError: weights that are not there, damaged, or of another network.
    """
    measures = dict.fromkeys(METRICS[name].measure for name in names)
    return {name: _measure(name, places, settings) for name in measures}


def _measure(name: str, places: Places, settings: Settings) -> Measure:
    batch, stride = settings.batch_size, settings.fvd_stride
    if name == "videomae":
        folder = EncoderFolder(places.videomae, VIDEOMAE)
        return VideoMaeFeatures(folder, digest(places.videomae), stride=stride, batch_size=batch)
    if name == "i3d":
        file = ConvolutionalFile(places.i3d, I3d(epsilon=settings.i3d_epsilon))
        return I3dFeatures(
            file, digest(places.i3d), frames=settings.fvd_frames, stride=stride, batch_size=batch
        )
    if name == "inception":
        file, frames = ConvolutionalFile(places.inception, Inception()), settings.image_frames
        return InceptionFrames(file, digest(places.inception), frames=frames, batch_size=batch)
    if name == "clip_score":
        return _clip_score(places.clip, settings)
    if name == "temporal_flickering":
        return TemporalFlickering()
    if name == "dynamic_degree":
        return DynamicDegree(RaftFile(places.raft), digest(places.raft), batch_size=batch)
    if name == "motion_smoothness":
        file = ConvolutionalFile(places.amt, Amt())
        return MotionSmoothness(file, digest(places.amt), batch_size=batch)
    return _of_frames(name, places, batch)


def _clip_score(place: str, settings: Settings) -> ClipScore:
    folder, frames = ClipFolder(place), settings.clip_frames
    model = ClipFrames(
        folder, fit="crop", frames=frames, batch_size=settings.batch_size, dtype="float32"
    )
    return ClipScore(model, folder.tokens(), {"weights": digest(place), "frames": frames})


def _of_frames(name: str, places: Places, batch_size: int) -> OfFrames:
    """VBench's dimensions by DINO, CLIP and MUSIQ."""
    options = {"batch_size": batch_size, "several": name.endswith("consistency")}
    if name == "imaging_quality":
        file = ConvolutionalFile(places.musiq, Musiq())
        score = file.module.apply
        return OfFrames(
            name,
            file,
            lambda params, images: score({"params": params}, images),
            lambda frames: at_most(frames, _LONGEST),
            imaging_value,
            causes={"weights": digest(places.musiq)},
            **options,
        )
    if name == "subject_consistency":
        folder = EncoderFolder(places.dino, DINO)
        look = Look(folder.module.image_size, "linear", crop=False, **IMAGENET)
        apply = folder.module.apply
        return OfFrames(
            name,
            folder,
            lambda params, images: apply({"params": params}, images),
            look,
            consistency,
            causes={"weights": digest(places.dino)},
            **options,
        )
    place = places.clip_b32 if name == "background_consistency" else places.clip_l14
    clip = _OfClip(ClipFolder(place))
    value, causes = consistency, {"weights": digest(place)}
    if name == "aesthetic_quality":
        weight, bias = read_head(places.aesthetic_head, clip.module.projection_dim)
        value = aesthetic_value(weight[0], float(bias[0]))
        causes["head"] = digest(places.aesthetic_head)
    own = ImageProcessor()
    side = clip.module.vision.image_size
    look = Look(side, "cubic", crop=True, mean=own.mean, std=own.std)
    apply = clip.module.apply
    return OfFrames(
        name,
        clip,
        lambda params, images: apply({"params": params}, images, method="embed_images"),
        look,
        value,
        causes=causes,
        **options,
    )


class _OfClip:
    """A CLIP model's folder as `Weights`."""

    def __init__(self, folder: ClipFolder):
        self.module, self.load = folder.module(), folder.load
        self.abstract = abstract_clip(self.module)


def digest(place: str | os.PathLike) -> str:
    """Returns digits that change when a file, or a file of a folder, does."""
    path = Path(here(place))
    return digest_files(files_below(path) if path.is_dir() else [(path.name, path)])
