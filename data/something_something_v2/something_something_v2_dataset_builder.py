"""Something-Something-V2 as a TFDS data set, from the publisher's labels and webm files.

    config = SomethingSomethingV2Config(path="/data/ssv2", prompts="data/prompts/...csv")
    builder = SomethingSomethingV2(config=config, data_dir=..., file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source(split="pretrain")  # no TensorFlow

`pretrain` holds the videos of the train labels; `prompts_{train,validation,test}` the evaluation
prompts, each with a video of the validation labels that has the same caption and gives it its
first frame.
"""

import dataclasses

from absl import logging

from vidpref.datasets import something_something as ssv2
from vidpref.datasets.bad_clips import BadClips
from vidpref.datasets.clip_builder import ClipJob, VideoBuilder, VideoConfig
from vidpref.datasets.prompts import SPLITS, load_prompts, with_validation


@dataclasses.dataclass(kw_only=True)
class SomethingSomethingV2Config(VideoConfig):
    """Options of the builder.

    Attributes:
        prompts: CSV file of the evaluation prompts.
        validation_fraction: of the train prompts that become validation prompts.
    """

    prompts: str = ""
    validation_fraction: float = 0.1

    def known_prompts(self) -> list[str]:
        """Returns the evaluation prompts and the labels of all train videos.

        Raises:
            ValueError, FileNotFoundError: see `find_layout`, `load_labels` and `load_prompts`.
        """
        layout = ssv2.find_layout(self.path)
        labels = [*ssv2.load_labels(layout.train), *ssv2.load_labels(layout.validation)]
        prompts = load_prompts(self.prompts)
        return list(dict.fromkeys(text.text for text in (*prompts, *labels)))


# The stages look builders up by file, so a second import must not clash with the first.
class SomethingSomethingV2(VideoBuilder, skip_registration=True):
    """People doing basic things with everyday objects."""

    def jobs(self, bad: BadClips) -> dict[str, list[ClipJob]]:
        config = self.builder_config
        layout = ssv2.find_layout(config.path)
        train, validation = ssv2.load_labels(layout.train), ssv2.load_labels(layout.validation)
        known = {label.id for label in (*train, *validation)}
        if layout.test:
            known |= ssv2.load_ids(layout.test)
        unknown = ssv2.unknown_videos(layout, known)
        for path in unknown:
            bad.note(path, "unknown_id", "no labels file has this id; not used")
        if unknown:
            logging.warning(
                "%d videos have an id without label: %s ...", len(unknown), unknown[0].name
            )
        prompts = with_validation(load_prompts(config.prompts), config.validation_fraction, seed=0)
        clips, unmatched = ssv2.find_prompt_clips(prompts, validation)
        lost = BadClips()
        for prompt in unmatched:
            for table in (bad, lost):
                table.note(prompt.id, "unmatched_prompt", f"no validation video: {prompt.text!r}")
        self.save(bad)
        lost.check(len(prompts), config.max_bad_fraction, self.bad_clips)
        return {
            "pretrain": [
                ClipJob(label.id, layout.video(label.id), label.text, label.template, "train")
                for label in train
            ],
            **{
                f"prompts_{split}": [
                    ClipJob(p.id, layout.video(clips[p.id]), p.text, p.category, split)
                    for p in prompts
                    if p.split == split and p.id in clips
                ]
                for split in SPLITS
            },
        }
