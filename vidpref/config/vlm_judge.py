"""Schema of a local vision-language model that is asked about clips."""

import dataclasses

from vidpref.config.fields import field

WORDS, PROBABILITIES, REASONED = "words", "probabilities", "reasoned"
_SAID = {".answers": (WORDS, REASONED)}
# What fields mean of any model that is asked in words.
TEMPLATES = (
    "Folder of the texts that it is asked with, or a name in data; '': judge_templates, and "
    "one_word_templates where nothing but a word is asked for."
)
GRADES = ("grades", "checklists")
GRADED = (
    "What dimensions but accept are: one grade of three, or the mean of several yes/no questions."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VlmJudge:
    """A Qwen2-VL, Qwen2.5-VL or Qwen3-VL of a local folder, which answers questions on frames."""

    folder: str = field(
        "",
        "",
        "Folder of the model, as transformers and its hub have it; '': the judge that the run "
        "trains, as the section judge says.",
        touches="place",
    )
    templates: str = field("", "", TEMPLATES, touches="place")
    answers: str = field(
        WORDS,
        (WORDS, PROBABILITIES, REASONED),
        "What counts: the word of a generated answer; how probable each word is as its first, "
        "without generation; or the word of an answer in McSc's form, behind its reasoning.",
    )
    graded: str = field("grades", GRADES, GRADED)
    frames: int = field(8, ">= 1", "Frames that are shown, evenly spaced.")
    video_fps: float = field(
        0.0,
        ">= 0",
        "Frames a second of the shown frames, as one video; 0: they are shown as images.",
    )
    min_pixels: int = field(50_176, ">= 1", "Pixels of a frame at least: smaller ones grow.")
    max_pixels: int = field(200_704, ">= 1", "Pixels of a frame at most: larger ones shrink.")
    most_tokens: int = field(8192, ">= 1", "Tokens of frames and question at most.")
    max_tokens: int = field(256, ">= 1", "Longest answer, in tokens.", when=_SAID)
    retries: int = field(
        2, ">= 0", "Further tries, drawn by chance, where an answer is not clear.", when=_SAID
    )
    weighed: bool = field(
        False,
        "",
        "Whether a grade behind reasoning is the mean of what its words are worth, by how probable "
        "each is there, and not the word alone.",
        when={".answers": (REASONED,)},
    )
    batch_size: int = field(
        8, ">= 1", "Questions that are asked at once, over the devices of a host.", touches="speed"
    )
    dtype: str = field("bfloat16", ("float32", "bfloat16"), "Compute type.")
