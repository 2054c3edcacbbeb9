"""From a folder of scores to claims.md and its pictures; nothing is run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from claimed import aif, blocks, feedback, measuring, pictures, tables
from claimed.claim import PRETRAINED, Group
from claimed.evidence import Evidence
from claimed.scores import Scores
from vidpref.evaluation.tables import Table
from vidpref.files import write_text


def stored(
    groups: Mapping[str, Group],
    configs: Mapping[str, Sequence[ConfigDict]],
    seeds: Sequence[int],
    workdir: Path,
    scores: Scores,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Evidence]:
    """Returns the scores of each group that are in the folder.

    Args:
        groups, configs: by the groups' names.
        seeds: training seeds.
        workdir: of the runs; nothing is read or written there.
        scores: the folder.
        say: told which scores are there of another config or version only.
    """
    found = {}
    for name, group in groups.items():
        of_seeds: dict[int, dict[str, tuple[str, str]]] = {}
        for seed in seeds:
            for policy, need in measuring.needed(group, configs[name], seed, workdir).items():
                fingerprint = _fingerprint(need, seed, scores, say)
                if fingerprint:
                    of_seeds.setdefault(seed, {})[policy] = (need.policy, fingerprint)
        found[name] = Evidence(scores, of_seeds)
    return found


def write(out: Path, groups: Mapping[str, Group], evidence: Mapping[str, Evidence]) -> str:
    """Writes claims.md and the pictures of what is measured; returns the text.

    What a claims.md that is there says outside of the marks stays (`blocks`).

    Raises:
        ValueError: a claims.md is there, without the marks.
    """
    out.mkdir(parents=True, exist_ok=True)
    claims = {name: group.claims for name, group in groups.items()}
    judged = tables.judge(claims, evidence)
    nothing = Evidence(Scores(out), {})
    projections = evidence.get("projections", nothing)
    pictures.draw_rounds(out / "projections.png", aif.METHODS, aif.ROUNDS, projections)
    for name, proxies, dimensions, steps_of in (
        ("overoptimisation", aif.PROXIES, aif.DRAWN, "Flow-DPO on motion quality"),
        ("feedback_steps", feedback.STEPS, feedback.DRAWN, "DPO on PickScore"),
    ):
        steps = evidence.get(name, nothing)
        pictures.draw_steps(out / f"{name}.png", proxies, steps, dimensions, steps_of)
    found = {
        "projections": [
            tables.category_table(aif.METHODS, aif.ROUNDS, projections, split)
            for split in ("test", "train")
        ],
        "claims": [
            tables.verdict_table(judged),
            tables.seeds_table(judged, evidence),
            tables.dimension_table(judged),
            *(tables.policy_table(name, groups[name].splits, evidence[name]) for name in groups),
        ],
    }
    path = out / "claims.md"
    text = path.read_text(encoding="utf-8") if path.exists() else blocks.empty(list(found))
    try:
        text = blocks.fill(text, {name: _markdown(of_block) for name, of_block in found.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    write_text(path, text)
    return text


def _markdown(found: Sequence[Table]) -> str:
    return "\n".join(table.to_markdown() for table in found if _has_rows(table))


def _has_rows(table: Table) -> bool:
    return bool(table.rows) or table.title == "Verdicts"


def _fingerprint(
    need: measuring.Needed, seed: int, scores: Scores, say: Callable[[str], None]
) -> str:
    """Under which a policy's scores are there; "" where they are not."""
    if scores.path(need.policy, seed, need.fingerprint).exists():
        return need.fingerprint
    # pre-trained policies of other generators have the same name
    if need.policy != PRETRAINED and scores.versions(need.policy, seed):
        say(measuring.of_another(need, seed, scores))
    return ""
