"""Measures the claims of the papers about alignment objectives on the mini world.

    python benchmarks/claims.py --workdir=runs/claims                       # all, three seeds
    python benchmarks/claims.py --workdir=runs/claims --only=beta,mcdpo     # some groups

Each group of claims is one comparison (`launch/compare.py`) in the same work directory, so all
share pre-training and labels, and a stopped run goes on where it was. WORKDIR/claims.md gets all
claims in short, then every dimension: the claim, the paper's number, ours with a 95 % interval over
seeds and prompts on held-out prompts, and the verdict: the claim holds or does not hold where the
interval lies on one side of zero, and is unresolved otherwise. WORKDIR/GROUP/ gets each
comparison's own tables and report.
"""

import dataclasses
import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from absl import app, flags

from vidpref.evaluation.statistics import paired_difference, paired_dimensions
from vidpref.evaluation.tables import Estimate, Table, write_markdown
from vidpref.runs import command_line as program
from vidpref.runs import compare, report
from vidpref.runs.workdir import locked

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs; made if it does not exist.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Training seeds.", lower_bound=1)
_ONLY = flags.DEFINE_list("only", [], "Groups to run, separated by commas; none means all.")

QUALITY = ("visual_quality", "motion_quality", "text_alignment")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim about two policies in some dimensions.

    Attributes:
        text: what the paper says.
        paper: its numbers, and where they stand.
        policy, baseline: whose clips are compared, with the same prompts and noise.
        dimensions: where the policy is said to be better; "accept" is acceptance.
    """

    text: str
    paper: str
    policy: str
    baseline: str
    dimensions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Configs that run together, and what is claimed about them."""

    configs: tuple[str, ...]
    claims: tuple[Claim, ...]
    rounds: int = 1


_ONLY_TEXT = "align.reward.visual_quality=0.0+align.reward.motion_quality=0.0"
_TEXT = "+visual_quality=0.0+motion_quality=0.0"
_NO_TEXT = "align.reward.text_alignment=0.0"
_STILL = "+text_alignment=0.0"
_LIKES_STILL = f"{_NO_TEXT}+align.reward.object_motion=-0.5"
_LIKED = f"{_STILL}+object_motion=-0.5"
_NO_MOTION = "+object_motion=0.0+camera_motion=0.0"
_NO_REAL = "+real_weight=0.0"
_RATE = "align.train.optimizer.learning_rate"
_SLOWLY = f"{_RATE}=1e-5"
_PROXY = "align.reward.visual_quality=0.0+align.reward.text_alignment=0.0"
_STEPS = (50, 150, 450)


def _proxy(steps: int) -> str:
    return f"flow_dpo+steps={steps}+visual_quality=0.0+text_alignment=0.0"


def _weights(visual: float, motion: float, text: float) -> str:
    values = {"visual_quality": visual, "motion_quality": motion, "text_alignment": text}
    return "+".join(f"align.weights.{name}={value}" for name, value in values.items())


def _guided(visual: float, motion: float, text: float) -> str:
    return "flow_nrg+" + _weights(visual, motion, text).replace("align.weights.", "")


GROUPS = {
    "beta": Group(
        ("flow_sft", "flow_rwr", "flow_dpo", "flow_dpo+align.time_power=2.0"),
        (
            Claim(
                "Flow-DPO improves every dimension",
                "win rates 93.4 / 69.1 / 75.4 (VideoAlign Table 3, VBench VQ/MQ/TA)",
                "flow_dpo",
                "pretrained",
                QUALITY,
            ),
            Claim(
                "Constant beta beats (1 - tau)^2 in text alignment",
                "win rates 75.4 against 51.0 (VideoAlign Table 3)",
                "flow_dpo",
                "flow_dpo+time_power=2.0",
                ("text_alignment", "accept"),
            ),
            Claim(
                "(1 - tau)^2 gains more in motion quality",
                "win rates 82.4 against 69.1 (VideoAlign Table 3)",
                "flow_dpo+time_power=2.0",
                "flow_dpo",
                ("motion_quality",),
            ),
            Claim(
                "Flow-DPO beats Flow-RWR",
                "win rates 93.4 / 69.1 / 75.4 against 51.6 / 63.9 / 53.4 (VideoAlign Table 3)",
                "flow_dpo",
                "flow_rwr",
                (*QUALITY, "accept"),
            ),
            Claim(
                "Flow-DPO beats SFT on the preferred clips",
                "win rates 93.4 / 69.1 / 75.4 against 51.3 / 65.2 / 52.8 (VideoAlign Table 3)",
                "flow_dpo",
                "flow_sft",
                (*QUALITY, "accept"),
            ),
        ),
    ),
    "text": Group(
        (
            f"flow_sft+{_ONLY_TEXT}",
            f"flow_rwr+{_ONLY_TEXT}",
            f"flow_dpo+{_ONLY_TEXT}",
            f"flow_dpo+align.time_power=2.0+{_ONLY_TEXT}",
        ),
        (
            Claim(
                "Trained on text alignment alone, constant beta beats (1 - tau)^2",
                "win rates 69.1 against 63.7 (VideoAlign Table 4)",
                "flow_dpo" + _TEXT,
                "flow_dpo+time_power=2.0" + _TEXT,
                ("text_alignment",),
            ),
            Claim(
                "Trained on text alignment alone, Flow-DPO beats Flow-RWR",
                "win rates 69.1 against 59.7 (VideoAlign Table 4)",
                "flow_dpo" + _TEXT,
                "flow_rwr" + _TEXT,
                ("text_alignment",),
            ),
            Claim(
                "Trained on text alignment alone, Flow-DPO beats SFT",
                "win rates 69.1 against 52.9 (VideoAlign Table 4)",
                "flow_dpo" + _TEXT,
                "flow_sft" + _TEXT,
                ("text_alignment",),
            ),
        ),
    ),
    "mcdpo": Group(
        (
            f"mcdpo+{_NO_TEXT}",
            f"mcdpo+{_NO_TEXT}+align.camera_motion=0.0",
            f"mcdpo+{_NO_TEXT}+align.object_motion=0.0+align.camera_motion=0.0",
        ),
        (
            Claim(
                "DPO on a judge of quality loses motion",
                "dynamic degree falls (McSc Table 3)",
                "pretrained",
                "mcdpo" + _STILL + _NO_MOTION,
                ("object_motion", "camera_motion"),
            ),
            Claim(
                "McDPO recovers motion",
                "dynamic degree above DPO's (McSc Table 3)",
                "mcdpo" + _STILL,
                "mcdpo" + _STILL + _NO_MOTION,
                ("object_motion", "camera_motion"),
            ),
            Claim(
                "McDPO is as good as DPO in quality",
                "equal or better quality (McSc Table 3)",
                "mcdpo" + _STILL,
                "mcdpo" + _STILL + _NO_MOTION,
                ("visual_quality", "motion_quality"),
            ),
        ),
    ),
    "still": Group(
        (
            f"mcdpo+{_LIKES_STILL}+align.object_motion=0.0+align.camera_motion=0.0",
            f"mcdpo+{_LIKES_STILL}",
            f"mcdpo+{_LIKES_STILL}+align.object_motion=4.0+align.camera_motion=4.0",
        ),
        (
            Claim(
                "DPO on a judge that likes still clips loses motion",
                "dynamic degree falls (McSc Table 3)",
                "pretrained",
                "mcdpo" + _LIKED + _NO_MOTION,
                ("object_motion",),
            ),
            *(
                Claim(
                    f"McDPO{scaled} recovers motion, as good in quality",
                    "dynamic degree above DPO's, equal or better quality (McSc Table 3)",
                    "mcdpo" + _LIKED + factors,
                    "mcdpo" + _LIKED + _NO_MOTION,
                    ("object_motion", "visual_quality", "motion_quality", "accept"),
                )
                for scaled, factors in (
                    ("", ""),
                    (", motion scores times 4", "+object_motion=4.0+camera_motion=4.0"),
                )
            ),
        ),
    ),
    "ipo": Group(
        ("ipo_dpo", "ipo_kto"),
        (
            Claim(
                "KTO is as good as DPO after one round",
                "VBench total 82.47 against 82.42 (IPO Table 4)",
                "ipo_kto",
                "ipo_dpo",
                ("accept", *QUALITY),
            ),
            *(
                Claim(
                    f"Round {round_} improves {method.upper()}",
                    f"VBench total {after} after {before} (IPO Table 3, DPO)",
                    f"ipo_{method}_round{round_}",
                    f"ipo_{method}" + (f"_round{round_ - 1}" if round_ > 2 else ""),
                    ("accept", *QUALITY),
                )
                for method in ("dpo", "kto")
                for round_, after, before in ((2, 82.42, 81.69), (3, 82.74, 82.42))
            ),
        ),
        rounds=3,
    ),
    "real": Group(
        (
            "ipo_dpo",
            "ipo_dpo+align.real_weight=0.0",
            "ipo_kto",
            "ipo_kto+align.real_weight=0.0",
        ),
        tuple(
            Claim(
                f"Real clips in the loss help {method.upper()}",
                "smoothness 97.84 against 97.81, aesthetic 61.55 against 61.25 (IPO Table 2)",
                f"ipo_{method}",
                f"ipo_{method}" + _NO_REAL,
                ("accept", *QUALITY),
            )
            for method in ("dpo", "kto")
        ),
    ),
    "realdpo": Group(
        (
            "realdpo",
            f"realdpo+align.nll_weight=0.0+{_SLOWLY}",
            f"flow_sft+align.rows=real+align.lora.rank=0+align.real_clips=1000+{_RATE}=3e-4",
            "flow_dpo",
        ),
        (
            Claim(
                "RealDPO beats SFT on the real clips",
                "overall 73.3 against 58.2 in a user study (RealDPO Table 1)",
                "realdpo",
                "flow_sft+rows=real+rank=0+real_clips=1000+learning_rate=3e-4",
                ("accept", *QUALITY),
            ),
            Claim(
                "RealDPO without the winner's error improves the generator",
                "overall 73.3 against 65.6 in a user study (RealDPO Table 1)",
                "realdpo+nll_weight=0.0+learning_rate=1e-5",
                "pretrained",
                ("accept", *QUALITY),
            ),
            Claim(
                "RealDPO beats DPO on clips that a judge labelled",
                "overall 73.3 against 61.0 (VideoAlign) in a user study (RealDPO Table 1)",
                "realdpo",
                "flow_dpo",
                ("accept", *QUALITY),
            ),
        ),
    ),
    "nrg": Group(
        (
            f"flow_nrg+{_weights(0.0, 0.0, 1.0)}",
            f"flow_nrg+{_weights(0.1, 0.1, 0.8)}",
            f"flow_nrg+{_weights(0.5, 0.5, 0.0)}",
            f"flow_nrg+align.noise_aware=False+{_weights(0.0, 0.0, 1.0)}",
        ),
        (
            Claim(
                "Weight on text alignment steers to it",
                "TA win rate 70.4 at 0:0:1 (VideoAlign Table 5)",
                _guided(0.0, 0.0, 1.0),
                "pretrained",
                ("text_alignment",),
            ),
            Claim(
                "Weight on quality steers to it",
                "VQ 86.4, MQ 93.2 at 0.5:0.5:0 (VideoAlign Table 5)",
                _guided(0.5, 0.5, 0.0),
                "pretrained",
                ("visual_quality", "motion_quality"),
            ),
            Claim(
                "More weight on text alignment gives more of it",
                "TA 70.4 against 60.9 against 26.7 (VideoAlign Table 5)",
                _guided(0.0, 0.0, 1.0),
                _guided(0.5, 0.5, 0.0),
                ("text_alignment",),
            ),
            Claim(
                "A reward trained on noisy clips steers better than one trained on clean ones",
                "shown in pictures (VideoAlign appendix E)",
                _guided(0.0, 0.0, 1.0),
                _guided(0.0, 0.0, 1.0).replace("flow_nrg+", "flow_nrg+noise_aware=False+"),
                ("text_alignment",),
            ),
        ),
    ),
    "overoptimisation": Group(
        tuple(f"flow_dpo+align.train.steps={steps}+{_PROXY}" for steps in _STEPS),
        (
            Claim(
                "More steps on one proxy (motion quality) raise it further",
                "proxy rewards keep rising (AIF Figure 7)",
                _proxy(_STEPS[-1]),
                _proxy(_STEPS[0]),
                ("motion_quality",),
            ),
            Claim(
                "while acceptance falls from its best",
                "AI feedback falls when CLIP or flow is optimised for long (AIF Figure 7)",
                _proxy(150),
                _proxy(_STEPS[-1]),
                ("accept", "text_alignment", "object_motion"),
            ),
        ),
    ),
}


def main(overrides: Sequence[str]) -> None:
    if not _WORKDIR.value:
        raise app.UsageError("--workdir=FOLDER is missing.")
    names = _ONLY.value or list(GROUPS)
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise app.UsageError(f"--only={unknown[0]}: known are {', '.join(GROUPS)}")
    workdir = Path(_WORKDIR.value)
    program.start_devices(workdir)
    found = {}
    with locked(workdir):
        for name in names:
            frame = run_group(GROUPS[name], workdir, name, overrides)
            found[name] = [row for claim in GROUPS[name].claims for row in judge(claim, frame)]
            rows = [row for group in found.values() for row in group]
            write_markdown(workdir / "claims.md", [summary_table(found), claims_table(rows)])
    print((workdir / "claims.md").read_text())


def run_group(group: Group, workdir: Path, name: str, overrides: Sequence[str]) -> pd.DataFrame:
    """Runs a group's comparison; returns its evaluation clips, one row each."""
    configs = compare.load_configs(group.configs, "mini", overrides)
    found = compare.compare(configs, workdir, seeds=_SEEDS.value, rounds=group.rounds)
    command = shlex.join(["python", *sys.argv])
    (workdir / name).mkdir(exist_ok=True)
    report.write_comparison_report(found, configs, workdir / name, command=command)
    if name == "overoptimisation":
        plot_steps(found.frame, workdir / name / "steps.png")
    return found.frame


def plot_steps(frame: pd.DataFrame, path: Path) -> None:
    """Draws the proxy and what it stands for against training steps, on held-out prompts."""
    held_out = frame[frame["split"] == "test"]
    figure, axes = plt.subplots(figsize=(6, 4))
    for dimension in ("motion_quality", "accept", "text_alignment", "object_motion"):
        means = held_out.groupby("policy")[dimension].mean()
        points = [means["pretrained"], *(means[_proxy(steps)] for steps in _STEPS)]
        axes.plot((0, *_STEPS), points, marker="o", label=dimension.replace("_", " "))
    axes.set(xlabel="steps of Flow-DPO on motion quality", ylabel="mean score, held-out prompts")
    axes.set_ylim(0, 1)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def judge(claim: Claim, frame: pd.DataFrame) -> list[list]:
    """Returns one row of the table for each dimension of a claim."""
    held_out = frame[frame["split"] == "test"]
    both = held_out[held_out["policy"].isin([claim.policy, claim.baseline])]
    paired = {"accept": paired_difference(both, claim.policy, claim.baseline)}
    paired |= paired_dimensions(both, claim.policy, claim.baseline)
    rows = []
    for name in claim.dimensions:
        low, high = paired[name]["ci"]
        verdict = "holds" if low > 0 else "does not hold" if high < 0 else "unresolved"
        ours = Estimate(paired[name]["diff"], low, high, signed=True)
        wins = paired[name].get("win_rate")
        wins = None if wins is None else f"{100 * wins:.1f}"
        rows.append([claim.text, claim.paper, name.replace("_", " "), ours, wins, verdict])
    return rows


def summary_table(found: Mapping[str, Sequence[Sequence]]) -> Table:
    """Returns one row a claim, of the rows of `judge` of each group."""
    rows = []
    for group, judged in found.items():
        for (text, paper), several in itertools.groupby(judged, key=lambda row: tuple(row[:2])):
            ours, verdicts = [], {}
            for _, _, dimension, estimate, _, verdict in several:
                ours.append(f"{dimension} {estimate}")
                verdicts.setdefault(verdict, []).append(dimension)
            whole = len(verdicts) == 1
            verdict = "; ".join(v if whole else f"{v}: {', '.join(d)}" for v, d in verdicts.items())
            rows.append([text, paper, ", ".join(ours), verdict, f"`--only={group}`"])
    return Table(
        "All claims",
        ["Claim", "Paper", "Ours, points", "Verdict", "Command"],
        rows,
        "A row of the table below for each dimension, in one.",
    )


def claims_table(rows: Sequence[Sequence]) -> Table:
    """Returns the table of all claims."""
    return Table(
        "Claims",
        ["Claim", "Paper", "Dimension", "Ours, points", "Win rate, %", "Verdict"],
        list(rows),
        "Held-out prompts, the same noise for both policies; 95 % intervals over training seeds "
        "and prompts. The win rate counts ties as half.",
    )


if __name__ == "__main__":
    program.launch(main)
