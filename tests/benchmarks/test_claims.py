"""Claims are about policies that are made; scores outlive the runs; tables come of scores alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claimed import aif, measuring, writing
from claimed.claim import DIMENSIONS, PRETRAINED, PROXY, Claim, Group, after
from claimed.evidence import Evidence
from claimed.groups import GROUPS
from claimed.measuring import Needed
from claimed.scores import Scores
from claimed.tables import (
    category_table,
    dimension_table,
    judge,
    policy_table,
    seeds_table,
    verdict_table,
)

from vidpref.config.causes import Causes
from vidpref.config.metrics import METRICS
from vidpref.evaluation.statistics import over_seeds
from vidpref.evaluation.verdicts import Kind, Outcome
from vidpref.runs.compare import Comparison
from vidpref.runs.rounds import Evaluated

ROOT = Path(__file__).parents[2]
SEEDS = range(4)


def configs_of(group, metrics=None):
    configs = measuring.load_configs(group, (), 8, metrics)
    return dict(zip(group.configs, configs, strict=True))


@pytest.mark.parametrize("name", GROUPS)
def test_every_claim_is_about_policies_of_its_group(name, tmp_path):
    group = GROUPS[name]
    configs = measuring.load_configs(group, (), 8)
    made = measuring.needed(group, configs, 0, tmp_path)
    assert len({need.policy for need in made.values()}) == len(made)
    for claim in group.claims:
        assert {claim.policy, claim.baseline} <= set(made), claim.text
        judged = {made[name].config for name in (claim.policy, claim.baseline)}
        known = {*DIMENSIONS, PROXY} if judged <= set(group.variants) else set(DIMENSIONS)
        assert {claim.primary, *claim.others} <= known
        assert claim.primary not in claim.others
    assert set(group.variants) <= set(group.configs)
    for config_name, config in zip(group.configs, configs, strict=True):
        if config_name in group.variants:
            assert config.evaluate.verifier
            assert made[config_name].policy == config_name
        else:
            assert set(DIMENSIONS) <= set(config.reward.dimensions)
        assert config.evaluate.per_prompt == 8
        assert not config.search  # a seed's choice would be another's setting
    assert not list(tmp_path.iterdir())  # looking writes nothing


def test_a_seed_a_setting_and_a_number_of_clips_are_other_scores(tmp_path):
    group = Group(("flow_sft",), ())
    found = set()
    for seed, overrides, clips in (
        (0, (), 8),
        (1, (), 8),
        (0, ("align.train.steps=7",), 8),
        (0, (), 4),
    ):
        configs = measuring.load_configs(group, overrides, clips)
        found.add(measuring.needed(group, configs, seed, tmp_path)["flow_sft"].fingerprint)
    assert len(found) == 4


def test_feedback_differs_in_the_judge_alone():
    configs = configs_of(GROUPS["feedback"])
    sections = ("align", "pretrain", "label", "sampler", "data", "model", "diffusion")
    for plain, method in ((configs["dpo_aif"], "dpo"), (configs["rwr_aif"], "rwr")):
        truth = Causes(plain).of(*sections)
        for feedback in ("judge", "clip_score", "pick_score"):
            config = configs[f"{method}_{feedback}"]
            own = Causes(config).of(*sections)
            differs = {path for path in {**truth, **own} if truth.get(path) != own.get(path)}
            # weights of metrics count where a metric is the judge; all are 0
            differs -= {f"align.reward.{metric}" for metric in METRICS}
            expected = {"align.policy", *(["align.pairs"] if method == "dpo" else [])}
            assert differs == expected
            assert config.align.reward.to_dict() == plain.align.reward.to_dict()
    assert configs["dpo_judge"].align.pairs == "best_worst"  # of probabilities


def test_scores_are_of_the_models_that_were_learnt_from(tmp_path):
    group = GROUPS["feedback_steps"]
    places = [tmp_path / name for name in ("a", "b", "moved")]
    for place, weights in zip(places, ("one", "two", "one"), strict=True):
        (place / "pick_score").mkdir(parents=True)
        (place / "pick_score" / "model.safetensors").write_text(weights)
    found = []
    for place in (*places, tmp_path / "missing"):
        configs = measuring.load_configs(group, (), 8, place)
        made = measuring.needed(group, configs, 0, tmp_path / "runs")
        found.append([made[name].fingerprint for name in (PRETRAINED, *group.configs)])
    one, two, moved, missing = found
    assert one == moved
    for other in (two, missing):
        assert [a == b for a, b in zip(one, other, strict=True)] == [True, False, False, False]
    measuring.check_models({"group": configs_of(group, places[0]).values()})
    with pytest.raises(ValueError, match=r"missing/pick_score is not there: train it by.*missing,"):
        measuring.check_models({"group": configs_of(group, tmp_path / "missing").values()})


def test_a_proxy_stands_beside_the_truth(tmp_path):
    truth = pd.concat([clips_of(PRETRAINED, 0), clips_of("learnt", 0, 0.4)], ignore_index=True)
    folders = {}
    for number, (name, rows) in enumerate(truth.groupby("policy", sort=False)):
        folders[name] = tmp_path / name
        labels = rows.drop(columns=["policy", *DIMENSIONS]).assign(
            clip_id=rows["scene_id"], dimension="pick_score", who="metrics", rationale=""
        )
        folders[name].mkdir()
        scores = np.arange(len(rows)) + 0.5 * number * len(rows)  # half of the others lie below
        labels.assign(score=scores).to_parquet(folders[name] / "labels.parquet")
    evaluated = {name: Evaluated(path, path, proxy=path) for name, path in folders.items()}
    found = measuring.scored(Comparison(truth, [], [], evaluated))
    share = (np.arange(240) + 0.5) / 240
    expected = np.concatenate([share, np.minimum(share + 0.5, 1)])
    np.testing.assert_allclose(found[PROXY], expected, atol=0.003)  # ties count as half
    alone = {name: Evaluated(path, path) for name, path in folders.items()}
    assert PROXY not in measuring.scored(Comparison(truth, [], [], alone))
    with pytest.raises(ValueError, match="did not score the same clips"):
        measuring.scored(Comparison(truth.iloc[::-1], [], [], evaluated))

    store = Scores(tmp_path / "scores")
    for name, rows in found.groupby("policy"):
        store.write(rows, name, 0, "f" * 12)
    store.write(clips_of("plain", 0), "plain", 0, "f" * 12)
    names = {name: (name, "f" * 12) for name in (PRETRAINED, "learnt", "plain")}
    evidence = Evidence(store, {0: names})
    assert PROXY not in store.read("plain", 0, "f" * 12)
    claim = Claim("it rises", "", "learnt", PRETRAINED, PROXY, unstable=True)
    measured = evidence.measured(claim, PROXY)[0].mean
    held_out = found[found["split"] == "test"]
    means = held_out.groupby("policy")[PROXY].mean()
    np.testing.assert_allclose(measured, means["learnt"] - means[PRETRAINED], atol=0.002)
    table = policy_table("feedback", ["test"], evidence)
    shown = {row[0]: row[-1] for row in table.rows}
    assert shown["`plain`"] is None
    np.testing.assert_allclose(shown["`learnt`"].value, means["learnt"], atol=0.002)
    plain = policy_table("feedback", ["test"], Evidence(store, {0: {"plain": names["plain"]}}))
    assert len(plain.columns) == len(table.columns) - 1


def clips_of(policy: str, seed: int, gain: float = 0.0, prompts: int = 60) -> pd.DataFrame:
    """Held-out and training clips; all policies of a seed share their noise."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.2, 0.6, (2, prompts, 2))
    luck = rng.uniform(size=base.shape)
    rows = []
    for (split, prompt, sample), value in np.ndenumerate(base):
        where = ("test", "train")[split]
        row = {"policy": policy, "split": where, "category": ("DM", "OR")[prompt % 2]}
        row |= {"prompt": f"{where} {prompt}", "scene_id": f"{where}-{prompt}", "sample": sample}
        row |= dict.fromkeys(DIMENSIONS, value + gain / 10)
        rows.append(row | {"accept": float(luck[split, prompt, sample] < 0.3 + gain)})
    return pd.DataFrame(rows)


GAINS = {PRETRAINED: 0.0, "better": 0.4, "same": 0.0}
CLAIMS = (
    Claim("it gains", "a lot", "better", PRETRAINED, others=("motion_quality",)),
    Claim("it is as good", "", "better", "same", "visual_quality", kind=Kind.NOT_INFERIOR),
    Claim("it does nothing", "", "same", PRETRAINED),
    Claim("it is unstable", "", "better", "same", unstable=True),
    Claim("nobody knows", "", "missing", "same"),
)


@pytest.fixture
def scores(tmp_path):
    found = Scores(tmp_path / "scores")
    for seed in SEEDS:
        for policy, gain in GAINS.items():
            shuffled = clips_of(policy, seed, gain).sample(frac=1, random_state=seed)
            found.write(shuffled, policy, seed, "f" * 12)
    return found


def evidence_of(scores, seeds=SEEDS):
    names = {name: (name, "f" * 12) for name in GAINS}
    return Evidence(scores, {seed: names for seed in seeds})


def test_scores_come_back(scores):
    clips = clips_of("better", 2, 0.4).sort_values(["split", "category", "prompt", "sample"])
    found = scores.read("better", 2, "f" * 12)
    np.testing.assert_array_equal(found["accept"], clips["accept"])
    np.testing.assert_allclose(found["motion_quality"], clips["motion_quality"], atol=0.0021)
    assert found["prompt"].tolist() == clips["prompt"].tolist()
    assert len(list(scores.folder.glob("clips-*.parquet"))) == 1  # one list for all
    assert scores.versions("better", 2) == ["f" * 12]
    with pytest.raises(ValueError, match="gave no 'object_motion'"):
        scores.write(clips.drop(columns="object_motion"), "better", 0, "a")
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        scores.write(clips.assign(accept=2.0), "better", 0, "a")


def test_a_policy_takes_a_few_kilobytes(tmp_path):
    store, rng = Scores(tmp_path), np.random.default_rng(0)
    frame = pd.concat([clips_of("p", s, 0.1, prompts=232).assign(sample=s) for s in range(4)])
    frame = frame.assign(sample=np.arange(len(frame)))  # 3712 clips, as 463 prompts of 8
    for name in DIMENSIONS[1:]:
        frame[name] = rng.beta(4, 1, len(frame))
    store.write(frame, "p", 0, "f" * 12)
    assert store.path("p", 0, "f" * 12).stat().st_size < 20_000  # 52 policies of 5 seeds: 5 MB


def test_verdicts_are_those_of_the_rule(scores):
    evidence = evidence_of(scores)
    judged = judge({"group": CLAIMS}, {"group": evidence})
    outcomes = [j.verdict.outcome if j.verdict else None for j in judged]
    assert outcomes == [Outcome.HOLDS, Outcome.HOLDS, Outcome.NO_EFFECT, None, None]
    frame = pd.concat(
        [clips_of(p, s, g).assign(training_seed=s) for s in SEEDS for p, g in GAINS.items()]
    )
    expected = over_seeds(frame[frame["split"] == "test"], "better", PRETRAINED)
    found = judged[0].measured["accept"][0]
    np.testing.assert_allclose([found.mean, *found.ends()], [expected["diff"], *expected["ci"]])
    assert judged[0].measured["motion_quality"][1].mean == 1.0  # wins all
    assert judged[2].measured["accept"][1].mean == 0.5

    table = verdict_table(judged)
    assert [row[0] for row in table.rows] == ["it gains", "it is as good", "it does nothing"]
    assert table.rows[0][5:7] == [4, "holds"]
    assert "no effect worth naming 1" in table.caption
    assert "Not measured: 1" in table.caption
    assert [row[1:3] for row in dimension_table(judged).rows[:2]] == [
        ["acceptance", "primary"],
        ["motion quality", ""],
    ]
    (unstable,) = seeds_table(judged, {"group": evidence}).rows
    assert len(unstable[3].split(", ")) == len(SEEDS)


def test_seeds_are_added_later(scores):
    few = judge({"group": CLAIMS}, {"group": evidence_of(scores, (0, 1))})
    assert few[0].seeds == 2
    assert few[0].verdict.outcome == Outcome.UNRESOLVED  # whatever two seeds say
    assert judge({"group": CLAIMS}, {"group": evidence_of(scores, (0, 1, 3))})[0].seeds == 3


def test_other_clips_do_not_pair(scores):
    scores.write(clips_of("better", 0, 0.4, prompts=10), "better", 0, "f" * 12)
    with pytest.raises(ValueError, match="not of the same clips"):
        judge({"group": CLAIMS}, {"group": evidence_of(scores)})


def test_categories(scores):
    table = category_table({"Better": "better"}, 1, evidence_of(scores), "test")
    assert [row[0] for row in table.rows] == ["pre-trained", "Better, round 1"]
    assert list(table.columns) == [
        "Method",
        "Seeds",
        "All",
        "Directional movement",
        "Object removal",
    ]


def test_scores_of_another_config_do_not_count(tmp_path, monkeypatch):
    store, said = Scores(tmp_path), []
    store.write(clips_of("flow_sft", 0), "flow_sft", 0, "0" * 12)
    group = Group(("flow_sft",), ())
    now = {"flow_sft": Needed("flow_sft", "flow_sft", "1" * 12)}
    monkeypatch.setattr(measuring, "needed", lambda *_: now)
    args = ({"group": group}, {"group": ()}, [0], tmp_path, store)
    assert writing.stored(*args, say=said.append)["group"].seeds("flow_sft") == []
    assert "another config or version (000000000000, now 111111111111)" in said[0]
    store.write(clips_of("flow_sft", 0), "flow_sft", 0, "1" * 12)
    assert writing.stored(*args)["group"].seeds("flow_sft") == [0]


@pytest.fixture
def two_configs(monkeypatch):
    """A group that needs the pre-trained policy and "a" of its first config, "b" of its second."""
    wanted = {
        name: Needed(config, name, "1" * 12)
        for config, name in (("a", PRETRAINED), ("a", "a"), ("b", "b"))
    }
    monkeypatch.setattr(measuring, "needed", lambda *_: wanted)
    configs = measuring.load_configs(Group(("flow_sft", "flow_rwr"), ()), (), 8)
    return Group(("a", "b"), ()), configs


def test_only_what_is_missing_runs(two_configs, tmp_path, monkeypatch):
    store, ran = Scores(tmp_path), []
    group, configs = two_configs

    frame = pd.concat([clips_of(name, 3) for name in (PRETRAINED, "a", "b")])

    def compare(configs, workdir, *, seeds, rounds):
        ran.append([(c.name, c.seed) for c in configs])
        return Comparison(frame, [], [], {})

    monkeypatch.setattr(measuring.compare, "compare", compare)
    for name in (PRETRAINED, "a"):
        store.write(clips_of(name, 3), name, 3, "1" * 12)
    for _ in range(2):
        measuring.measure(group, configs, 3, tmp_path, store, print)
    assert ran == [[("flow_rwr", 3)]]


def test_scores_are_kept_as_soon_as_they_are_there(two_configs, tmp_path, monkeypatch):
    store = Scores(tmp_path)
    group, configs = two_configs

    frame = pd.concat([clips_of(name, 3) for name in (PRETRAINED, "a")])

    def compare(configs, workdir, *, seeds, rounds):
        if configs[0].name == "flow_rwr":
            raise KeyboardInterrupt
        return Comparison(frame, [], [], {})

    monkeypatch.setattr(measuring.compare, "compare", compare)
    with pytest.raises(KeyboardInterrupt):
        measuring.measure(group, configs, 3, tmp_path, store, print)
    there = [store.path(name, 3, "1" * 12).exists() for name in (PRETRAINED, "a", "b")]
    assert there == [True, True, False]


def test_the_page_says_what_the_scores_say(tmp_path):
    store, stale = Scores(ROOT / "docs" / "claims_scores"), []
    metrics = store.folder / "metrics"
    configs = {n: measuring.load_configs(group, (), 8, metrics) for n, group in GROUPS.items()}
    evidence = writing.stored(GROUPS, configs, range(5), tmp_path, store, say=stale.append)
    assert not stale  # measure them anew, or remove them
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    (tmp_path / "claims.md").write_text(page, encoding="utf-8")
    # python benchmarks/claims.py --only_tables --out=docs
    assert writing.write(tmp_path, GROUPS, evidence) == page


@pytest.mark.slow
def test_tables_and_pictures_of_a_folder_alone(tmp_path):
    store = Scores(tmp_path / "scores")
    stored = {}
    for name, group in GROUPS.items():
        made = [
            PRETRAINED,
            *(after(c, r) for c in group.configs for r in range(1, group.rounds + 1)),
        ]
        # files are named after the policies; here after their number in the group
        stored[name] = {policy: (f"{name}{i}", "f" * 12) for i, policy in enumerate(made)}
        for seed in range(2):
            for i in range(len(made)):
                clips = clips_of("p", seed, 0.05 * i, prompts=4).assign(**{PROXY: 0.05 * i})
                store.write(clips, f"{name}{i}", seed, "f" * 12)
    evidence = {name: Evidence(store, {0: names, 1: names}) for name, names in stored.items()}
    text = writing.write(tmp_path / "out", GROUPS, evidence)
    for heading in ("Verdicts", "Claims about collapse", "Every dimension", "Policies of ipo"):
        assert f"## {heading}" in text
    assert text.index("## Forward EM and reverse BT") < text.index("## Verdicts")
    for picture in ("projections.png", "overoptimisation.png", "feedback_steps.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
    page = tmp_path / "out" / "claims.md"
    page.write_text("# By hand\n\n" + text.replace("Verdicts", "Older") + "\nThe end\n")
    assert writing.write(tmp_path / "out", GROUPS, evidence) == f"# By hand\n\n{text}\nThe end\n"
    nothing = {name: Evidence(store, {}) for name in GROUPS}
    assert "No claim was measured yet" in writing.write(tmp_path / "none", GROUPS, nothing)
    page.write_text("# By hand\n")
    with pytest.raises(ValueError, match=r"claims\.md: the marks <!-- measured: projections"):
        writing.write(tmp_path / "out", GROUPS, evidence)
    assert set(aif.METHODS.values()) == set(GROUPS["projections"].configs)
