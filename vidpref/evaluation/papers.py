"""What a paper says of its method, beside what a run of it came to."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vidpref.evaluation.tables import Estimate, Table, baseline_of, difference, rate, splits_of

# How a run answers a claim: `(evaluation, policies in order, account of its judge) -> words`.
Here = Callable[[Mapping[str, Any], Sequence[str], Mapping[str, Any]], str]


@dataclasses.dataclass(frozen=True)
class PaperClaim:
    """A result of a paper.

    Attributes:
        says: with its numbers.
        source: table or figure.
        here: what the run has to say to it, "" for nothing.
    """

    says: str
    source: str
    here: Here


def _accepted(split: str) -> Here:
    """Acceptance before and after, with the difference."""

    def here(evaluation: Mapping, policies: Sequence[str], judge: Mapping) -> str:
        found = evaluation["policies"]
        if split not in splits_of(evaluation) or len(policies) < 2:
            return ""
        before, after = (rate(found[name].get(split)) for name in (policies[0], policies[-1]))
        change = difference(evaluation, policies[-1], split)
        return f"accepted {before} before, {after} after ({change})"

    return here


def _rounds(evaluation: Mapping, policies: Sequence[str], judge: Mapping) -> str:
    split = splits_of(evaluation)[0]
    rates = [evaluation["policies"][name].get(split) for name in policies]
    if len(rates) < 3 or None in rates:
        return ""
    return "accepted, by rounds from 0: " + ", ".join(f"{100 * r['accept']:.1f}" for r in rates)


def _dimension(name: str) -> Here:
    """The change of a dimension in points of 100."""

    def here(evaluation: Mapping, policies: Sequence[str], judge: Mapping) -> str:
        paired = evaluation.get("dimensions", {"paired": {}})["paired"]
        own = paired.get(policies[-1], {}).get(splits_of(evaluation)[0], {}).get(name)
        if own is None:
            return ""
        change = Estimate(own["diff"], *own["ci"], signed=True)
        return f"{name.replace('_', ' ')} {change} points of 100"

    return here


def _all(*names: str) -> Here:
    def here(evaluation: Mapping, policies: Sequence[str], judge: Mapping) -> str:
        each = [_dimension(name)(evaluation, policies, judge) for name in names]
        return "; ".join(text for text in each if text)

    return here


def _pairs(evaluation: Mapping, policies: Sequence[str], judge: Mapping) -> str:
    """The part of held-out pairs that the run's judge orders right."""
    return _of_judge(judge, "accuracy", "pairs of held-out clips with a winner ordered right")


def _grades(evaluation: Mapping, policies: Sequence[str], judge: Mapping) -> str:
    return _of_judge(judge, "right", "grades of held-out clips right")


def _of_judge(judge: Mapping[str, Any], key: str, what: str) -> str:
    found = {
        name: own[key]
        for name, own in judge.get("test", {}).items()
        if isinstance(own, Mapping) and own.get(key) is not None
    }
    each = (f"{name.replace('_', ' ')} {100 * value:.1f} %" for name, value in found.items())
    return f"{what}: {', '.join(each)}" if found else ""


_QUALITY = ("visual_quality", "motion_quality", "text_alignment")

# By the name of a config.
CLAIMS: dict[str, tuple[PaperClaim, ...]] = {
    "aif": (
        PaperClaim(
            "RWR on AI feedback: 53.0 % of clips of train prompts accepted before, 58.2 % after",
            "AIF Table 1",
            _accepted("train"),
        ),
        PaperClaim("Held-out prompts: 51.6 %, then 50.9 %", "AIF Table 1", _accepted("test")),
    ),
    "videoalign": (
        PaperClaim(
            "VideoReward orders 73.6 % of the pairs without ties of VideoGen-RewardBench right",
            "VideoAlign Table 2",
            _pairs,
        ),
        PaperClaim(
            "Flow-DPO against the pre-trained generator wins in visual quality 93.4 %, in motion "
            "quality 69.1 %, in text alignment 75.4 % (VBench prompts, by VideoReward)",
            "VideoAlign Table 3",
            _all(*_QUALITY),
        ),
    ),
    "mcsc": (
        PaperClaim(
            "The judge orders 81.5 % of MonetBench's pairs without ties right, 78.1 % without HCR",
            "McSc Table 1",
            _pairs,
        ),
        PaperClaim(
            "McDPO: VBench quality 84.92 before, 85.77 after (Wan2.1-1.3B)",
            "McSc Table 2",
            _all(*_QUALITY),
        ),
        PaperClaim(
            "Dynamic degree rises, where DPO's falls", "McSc Table 3", _dimension("object_motion")
        ),
    ),
    "ipo": (
        PaperClaim(
            "The critic of 13B says 82.95 % of single grades right",
            "IPO Table 6",
            _grades,
        ),
        PaperClaim("and orders 78.41 % of pairs", "IPO Table 6", _pairs),
        PaperClaim(
            "VBench total by rounds from 0: 80.91, 81.69, 82.42, 82.74", "IPO Table 3", _rounds
        ),
    ),
    "realdpo": (
        PaperClaim(
            "Overall quality in a user study: 65.6 before, 73.3 after",
            "RealDPO Table 1",
            _accepted("test"),
        ),
        PaperClaim(
            "Text alignment 71.9, then 77.0; motion quality 65.6, then 71.0",
            "RealDPO Table 1",
            _all("text_alignment", "motion_quality"),
        ),
    ),
}


def paper_table(name: str, evaluation: Mapping[str, Any], judge: Mapping[str, Any]) -> Table | None:
    """Returns a row a claim of the paper that a config follows; None where nothing can be said.

    Args:
        name: of the config.
        evaluation: result of `statistics.evaluation_json`.
        judge: what the run's judge was worth on clips that it did not learn from, by split and
            dimension; {} where the run trained none.
    """
    first = baseline_of(evaluation)
    policies = [first, *(p for p in evaluation["policies"] if p != first)]
    rows: list[list[Any]] = []
    for claim in CLAIMS.get(name, ()):
        if here := claim.here(evaluation, policies, judge):
            rows.append([claim.says, claim.source, here])
    if not rows:
        return None
    caption = (
        "Other data, another generator and another judge than the paper's: what can be compared is "
        "the direction. One run has no verdict; docs/claims.md has those of several seeds, and the "
        "rule."
    )
    return Table("Beside the paper", ["The paper", "Where", "This run"], rows, caption)
