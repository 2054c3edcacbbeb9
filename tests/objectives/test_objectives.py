"""What holds for every objective, and the check of their hyper-parameters."""

import numpy as np
import pytest
from objective_examples import CASES, B, draw, errors, gradient, labels

from vidpref.objectives.alignment import OBJECTIVES, check_hyper, needs_real_clips


def build(case, weight=None, rows=slice(None)):
    """Errors and labels of a case; the last two rows are far from the others."""
    name, hyper = CASES[case]
    spec = OBJECTIVES[name]
    policy, reference, reward = draw(spec.k + spec.more)
    reward[:, 0] += 1.0
    policy[4:] *= 50.0
    more = {}
    rng = np.random.default_rng(1)
    if needs_real_clips(hyper):
        more["real"] = rng.uniform(size=(B, 1)).astype(np.float32)
        more["real"][4:] = 70.0
    if spec.learns_from_advantages:
        reward = 1.6 * reward / reward.max() - 0.9
        policy = reference + 0.01 * (policy - reference)  # a clipped ratio pulls nothing
    if spec.needs_distance:
        more["distance"] = rng.uniform(size=(B, 1)).astype(np.float32)
    if spec.diverges:
        for name in ("moved", "reference_moved"):
            more[name] = rng.uniform(size=(B, 1)).astype(np.float32)
    if hyper.get("reference_point") == "mismatched":
        more["mismatched"] = rng.uniform(size=(B, 1)).astype(np.float32)
        more["mismatched"][4:] = -70.0
    motion = rng.uniform(size=(B, spec.k, 2)).astype(np.float32) if spec.needs_motion else None
    found = errors(policy, reference, **more)
    found = found.replace(
        policy=found.policy[rows],
        reference=found.reference[rows],
        tau=found.tau[rows],
        real=None if found.real is None else found.real[rows],
        mismatched=None if found.mismatched is None else found.mismatched[rows],
        distance=None if found.distance is None else found.distance[rows],
        moved=None if found.moved is None else found.moved[rows],
        reference_moved=None if found.moved is None else found.reference_moved[rows],
    )
    motion = None if motion is None else motion[rows]
    probability = rng.uniform(0.1, 0.9, B).astype(np.float32)[rows]
    score = probability if spec.needs_pair_score(hyper) else None
    return spec.fn, hyper, found, labels(reward[rows], weight, motion, score)


def test_every_objective_has_a_case():
    assert {name for name, _ in CASES.values()} == set(OBJECTIVES)


@pytest.mark.parametrize("case", CASES)
def test_padding_rows_do_not_count(case):
    fn, hyper, found, given = build(case, np.float32([1, 1, 1, 1, 0, 0]))
    loss, metrics = fn(found, given, **hyper)
    _, _, four, of_four = build(case, rows=slice(4))
    whole, expected = fn(four, of_four, **hyper)
    np.testing.assert_allclose(loss, whole, rtol=1e-6)
    assert metrics.keys() == expected.keys()
    for key in metrics:
        np.testing.assert_allclose(metrics[key], expected[key], rtol=1e-5, err_msg=key)
    names = ("real", "mismatched", "distance", "moved", "reference_moved")
    more = {n: getattr(found, n) for n in names if getattr(found, n) is not None}
    pull = gradient(fn, found.policy, found.reference, given, more, **hyper)
    assert np.all(np.asarray(pull[4:]) == 0)
    assert np.all(np.asarray(pull[:4]).any(axis=1))


@pytest.mark.parametrize("case", CASES)
def test_an_empty_batch_is_zero_not_nan(case):
    fn, hyper, found, given = build(case, np.zeros(B, np.float32))
    loss, metrics = fn(found, given, **hyper)
    assert loss == 0.0
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("case", CASES)
def test_good_hyper_parameters_pass(case):
    check_hyper(*CASES[case])


def test_real_clips_are_needed_where_they_weigh():
    assert needs_real_clips({"beta": 1.0, "real_weight": 0.1})
    assert not needs_real_clips({"beta": 1.0, "real_weight": 0.0})
    assert not needs_real_clips({"beta": 1.0})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("sft", (1,), (0, 2)), ("dpo", (2, 4), (1,)), ("mcdpo", (2,), (1, 3)), ("kto", (1,), (2,))],
)
def test_clips_of_a_row(name, good, bad):
    for k in good:
        OBJECTIVES[name].check_k(k, name)
    for k in bad:
        with pytest.raises(ValueError, match=f"{name} takes .* clips a row, the rows have {k}"):
            OBJECTIVES[name].check_k(k, name)


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("dpoo", {}, "'dpoo' is unknown; did you mean dpo or "),
        ("dpo", {"betta": 1.0}, "no field 'betta'; did you mean beta"),
        ("dpo", {"beta": 1.0, "nll": 1.0}, "no field 'nll'; did you mean nll_weight"),
        ("dpo", {}, "beta is missing; it must be > 0"),
        ("dpo", {"beta": 0.0}, "beta=0.0: must be > 0"),
        ("dpo", {"beta": -1.0}, "beta=-1.0: must be > 0"),
        ("dpo", {"beta": float("nan")}, "beta=nan must be a finite number"),
        ("dpo", {"beta": "500"}, "beta='500' must be a finite number"),
        ("dpo", {"beta": True}, "beta=True must be a finite number"),
        ("dpo", {"beta": 1.0, "nll_weight": -0.1}, "nll_weight=-0.1: must be >= 0"),
        ("rwr", {"eta": 1.0}, "gamma is missing; it must be >= 0"),
        ("rwr", {"eta": 0.0, "gamma": 0.0}, "eta=0.0: must be > 0"),
        ("flow_rwr", {"beta": 0.0}, "flow_rwr: beta=0.0: must be > 0"),
        ("dpo", {"beta": 1.0, "time_power": -1.0}, "time_power=-1.0: must be >= 0"),
        ("dpo", {"beta": 1.0, "pair_weight_cap": 0.0}, "pair_weight_cap=0.0: must be > 0"),
        ("mcdpo", {"beta": 1.0, "object": 1.0}, "no field 'object'; did you mean object_motion"),
        ("kto", {}, "beta is missing; it must be > 0"),
        ("kto", {"beta": 1.0, "undesirable_weight": 0.0}, "undesirable_weight=0.0: must be > 0"),
        (
            "kto",
            {"beta": 1.0, "reference_point": "median"},
            "reference_point='median': known are mean, balanced, mismatched, own_class",
        ),
        (
            "kto",
            {"beta": 1.0, "reference_point": "per_class"},
            "reference_point='per_class': is called 'own_class' now",
        ),
        ("kto", {"beta": 1.0, "reference_point": 1.0}, "reference_point=1.0: must be a text"),
        ("sft", {"beta": 1.0}, "no field 'beta'; known: real_weight"),
    ],
)
def test_wrong_hyper_parameters_are_named(name, hyper, message):
    with pytest.raises(ValueError, match=message):
        check_hyper(name, hyper)
