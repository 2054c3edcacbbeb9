"""The tables of claims: verdicts, every dimension, what seeds say apart, policies, categories."""

import dataclasses
from collections.abc import Mapping, Sequence

from claimed.claim import PRETRAINED, PROXY, Claim, after
from claimed.evidence import Evidence
from vidpref.evaluation import words
from vidpref.evaluation.intervals import Interval
from vidpref.evaluation.tables import SPLITS, Estimate, Table
from vidpref.evaluation.verdicts import Measured, Outcome, Verdict, verdicts


@dataclasses.dataclass(frozen=True)
class Judged:
    """A claim and what was measured.

    Attributes:
        group: its group's name.
        claim: the claim.
        seeds: how many training seeds both policies have.
        measured: difference and win rate by dimension, the primary one first; {} where a policy
            was not measured.
        verdict: None for an unstable claim, and where nothing was measured.
    """

    group: str
    claim: Claim
    seeds: int
    measured: Mapping[str, tuple[Measured, Interval]]
    verdict: Verdict | None


def judge(claims: Mapping[str, Sequence[Claim]], evidence: Mapping[str, Evidence]) -> list[Judged]:
    """Returns all claims with their verdicts, which depend on how many there are.

    Args:
        claims: by their group.
        evidence: the scores of each group.
    """
    found = []
    for group, of_group in claims.items():
        for claim in of_group:
            seeds = len(evidence[group].seeds(claim.policy, claim.baseline))
            names = (claim.primary, *claim.others) if seeds else ()
            measured = {name: evidence[group].measured(claim, name) for name in names}
            found.append(Judged(group, claim, seeds, measured, None))
    decided = [i for i, j in enumerate(found) if j.measured and not j.claim.unstable]
    said = verdicts(
        [found[i].claim.kind for i in decided],
        [found[i].measured[found[i].claim.primary][0] for i in decided],
    )
    for i, verdict in zip(decided, said, strict=True):
        found[i] = dataclasses.replace(found[i], verdict=verdict)
    return found


def verdict_table(judged: Sequence[Judged]) -> Table:
    """Returns one row a claim: its primary dimension and the verdict."""
    rows = [
        [
            *(j.claim.text, j.claim.paper, j.claim.kind.value, _named(j.claim.primary)),
            _estimate(j.measured[j.claim.primary][0]),
            *(j.seeds, str(j.verdict), f"`{j.group}`"),
        ]
        for j in judged
        if j.verdict is not None
    ]
    counts = {o: sum(j.verdict.outcome == o for j in judged if j.verdict) for o in Outcome}
    said = ", ".join(f"{o.value} {n}" for o, n in counts.items() if n)
    missing = sum(not j.measured for j in judged)
    caption = f"{len(rows)} claims: {said}." if rows else "No claim was measured yet."
    return Table(
        "Verdicts",
        ["Claim", "Paper", "Kind", "Dimension", "Ours, points", "Seeds", "Verdict", "Group"],
        rows,
        caption + (f" Not measured: {missing}." if missing else ""),
    )


def dimension_table(judged: Sequence[Judged]) -> Table:
    """Returns one row a claim and dimension; only the primary one, set first, decides."""
    rows = []
    for j in judged:
        for name, (measured, wins) in j.measured.items():
            graded = f"{100 * wins.mean:.1f} [{100 * wins.low:.1f}, {100 * wins.high:.1f}]"
            graded = None if name == "accept" else graded
            primary = "primary" if name == j.claim.primary else ""
            row = [j.claim.text, _named(name), primary, _estimate(measured), graded]
            rows.append([*row, f"`{j.group}`"])
    return Table(
        "Every dimension",
        ["Claim", "Dimension", "", "Ours, points", "Win rate, %", "Group"],
        rows,
        "The same prompts, held-out where the claim does not say otherwise, and the same noise for "
        "both policies; 95 % intervals over training seeds "
        "and prompts, each for itself. The win rate counts differences below half a point as ties, "
        "and ties as half.",
    )


def seeds_table(judged: Sequence[Judged], evidence: Mapping[str, Evidence]) -> Table:
    """Returns the claims about collapse: what every seed says, without a verdict."""
    rows = []
    for j in judged:
        if not (j.claim.unstable and j.measured):
            continue
        found, name = evidence[j.group], j.claim.primary
        values = [
            ", ".join(f"{100 * x:.0f}" for x in found.of_seeds(policy, name, j.claim.split))
            for policy in (j.claim.policy, j.claim.baseline)
        ]
        row = [j.claim.text, j.claim.paper, _named(name), *values]
        rows.append([*row, _estimate(j.measured[name][0]), f"`{j.group}`"])
    return Table(
        "Claims about collapse",
        ["Claim", "Paper", "Dimension", "Each seed, %", "Compared with, %", "Points", "Group"],
        rows,
        "Some seeds collapse and others do not: a mean says little, so there is no verdict.",
    )


def policy_table(group: str, splits: Sequence[str], evidence: Evidence) -> Table:
    """Returns the acceptance of every policy of a group, and what the judge that each learnt from
    says of its clips, where that was not the verifier.

    Args:
        group: its name.
        splits: of the prompts.
        evidence: scores of the group.
    """
    judged = {policy: evidence.has(policy, PROXY) for policy in evidence.policies()}
    judges = [PROXY] if any(judged.values()) else []
    rows = [
        [
            f"`{policy}`" if policy != PRETRAINED else policy,
            *(_rate(evidence.rate(policy, split)) for split in splits),
            ", ".join(f"{100 * x:.0f}" for x in evidence.of_seeds(policy, "accept")),
            *(_rate(evidence.rate(policy, "test", dimension=d)) if own else None for d in judges),
        ]
        for policy, own in judged.items()
    ]
    columns = ["Policy", *(f"{words.capital(SPLITS[s])} prompts, %" for s in splits)]
    columns += ["Held-out, each seed, %", *("Its judge, held-out, %" for _ in judges)]
    caption = "Accepted clips, 95 % intervals."
    if judges:
        caption += (
            " The judge is the one that a policy learnt from: of a metric, the share of the "
            "pre-trained generator's clips that score less, which is 50 before."
        )
    return Table(f"Policies of {group}", columns, rows, caption)


def category_table(
    methods: Mapping[str, str], rounds: int, evidence: Evidence, split: str
) -> Table:
    """Returns the acceptance of every method, round and category of one split.

    Args:
        methods: what they are called -> config.
        rounds: rounds of each.
        evidence: scores of their group.
        split: split of the prompts.
    """
    policies = {"pre-trained": PRETRAINED} | {
        f"{name}, round {round_}": after(config, round_)
        for name, config in methods.items()
        for round_ in range(1, rounds + 1)
    }
    there = {name: p for name, p in policies.items() if evidence.seeds(p)}
    categories: list[str] = []
    if there:
        clips = evidence.clips(PRETRAINED, evidence.seeds(PRETRAINED)[0])
        categories = sorted(clips.loc[clips["split"] == split, "category"].unique())
    rows = [
        [
            *(name, len(evidence.seeds(p))),
            *(_rate(evidence.rate(p, split, category=c)) for c in ("", *categories)),
        ]
        for name, p in there.items()
    ]
    columns = ["Method", "Seeds", "All", *(words.capital(words.category(c)) for c in categories)]
    heading = f"Forward EM and reverse BT, {SPLITS[split]} prompts"
    return Table(heading, columns, rows, "Accepted clips in per cent, 95 % intervals.")


def _estimate(measured: Measured) -> Estimate:
    return Estimate(measured.mean, *measured.ends(), signed=True)


def _rate(interval: Interval) -> Estimate:
    return Estimate(*interval)


def _named(dimension: str) -> str:
    return "acceptance" if dimension == "accept" else dimension.replace("_", " ")
