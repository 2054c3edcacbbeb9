import copy
import itertools
import json
import time

import grain
import grain.experimental
import numpy as np
import pytest

from vidpref.datasets.pipeline import training_batches
from vidpref.datasets.records import RecordFile, write_records


class Numbers:
    """Rows that carry their own number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert 0 <= index < self.count
        return {"n": np.int64(index), "x": np.full((2, 3), index, np.float32)}


def _take(iterator, count):
    return [next(iterator)["n"].tolist() for _ in range(count)]


def test_batches_are_stacked_rows():
    batch = next(training_batches(Numbers(10), batch_size=4, seed=0))
    assert batch["n"].shape == (4,)
    assert batch["x"].shape == (4, 2, 3)
    np.testing.assert_array_equal(batch["x"][:, 0, 0], batch["n"])


def test_every_row_once_an_epoch_and_every_epoch_in_another_order():
    rows = np.concatenate(_take(training_batches(Numbers(20), batch_size=5, seed=3), 12))
    epochs = rows.reshape(3, 20)
    for epoch in epochs:
        assert sorted(epoch) == list(range(20))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert list(epochs[0]) != list(range(20))


def test_the_order_depends_on_the_seed_alone():
    one = _take(training_batches(Numbers(50), batch_size=5, seed=1), 20)
    assert one == _take(training_batches(Numbers(50), batch_size=5, seed=1), 20)
    assert one != _take(training_batches(Numbers(50), batch_size=5, seed=2), 20)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_small_source_repeats_within_a_batch(count):
    rows = np.concatenate(_take(training_batches(Numbers(count), batch_size=8, seed=0), count))
    assert np.bincount(rows, minlength=count).tolist() == [8] * count


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_global_batch(processes):
    whole = _take(training_batches(Numbers(30), batch_size=8, seed=5), 10)
    parts = [
        _take(training_batches(Numbers(30), batch_size=8, seed=5, positions=own), 10)
        for own in np.split(np.arange(8), processes)
    ]
    joined = [list(itertools.chain(*shares)) for shares in zip(*parts, strict=True)]
    assert joined == whole


def test_state_resumes_exactly():
    iterator = training_batches(Numbers(17), batch_size=5, seed=9)
    _take(iterator, 6)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = _take(iterator, 10)
    fresh = training_batches(Numbers(17), batch_size=5, seed=9)
    fresh.set_state(copy.deepcopy(state))
    assert _take(fresh, 10) == expected
    _take(fresh, 3)
    fresh.set_state(state)  # also back in time, on a used iterator
    assert _take(fresh, 10) == expected


def test_errors():
    with pytest.raises(ValueError, match="the source has no rows"):
        training_batches(Numbers(0), batch_size=4, seed=0)
    with pytest.raises(ValueError, match="batch_size=0"):
        training_batches(Numbers(8), batch_size=0, seed=0)
    for positions in ([3, 4], [-1], []):
        with pytest.raises(ValueError, match="there are 4 rows, from 0"):
            training_batches(Numbers(8), batch_size=4, seed=0, positions=positions)


def test_errors_of_a_row_reach_the_caller():
    class Bad(Numbers):
        def __getitem__(self, index):
            raise ValueError(f"row {index} is bad")

    with pytest.raises(ValueError, match="row 0 is bad"):
        next(training_batches(Bad(1), batch_size=1, seed=0))


def test_mini_clips_are_read_quickly(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "clips.array_record"
    clips = rng.integers(0, 256, (500, 8, 16, 16, 3), np.uint8)
    write_records(path, ({"video": clip, "n": i} for i, clip in enumerate(clips)))
    iterator = training_batches(RecordFile(path), batch_size=32, seed=0)
    next(iterator)
    start = time.process_time()  # a loaded machine must not fail the test
    for _ in range(100):
        batch = next(iterator)
    assert 3200 / (time.process_time() - start) > 2000
    np.testing.assert_array_equal(batch["video"], clips[batch["n"]])


def _take_both(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    return [(b["n"].tolist(), b["real"]["n"].tolist()) for b in batches]


def test_rows_beside_come_in_an_order_and_epochs_of_their_own():
    options = {"batch_size": 4, "seed": 3}
    both = _take_both(training_batches(Numbers(12), beside=Numbers(8), **options), 6)
    rows, beside = (np.concatenate(numbers) for numbers in zip(*both, strict=True))
    alone = _take(training_batches(Numbers(12), **options), 6)
    assert rows.tolist() == np.concatenate(alone).tolist()
    for epoch in beside.reshape(3, 8):
        assert sorted(epoch) == list(range(8))
    assert len({tuple(epoch) for epoch in beside.reshape(3, 8)}) == 3
    same_size = _take_both(training_batches(Numbers(12), beside=Numbers(12), **options), 3)
    assert all(own != other for own, other in same_size)


def test_rows_beside_resume_exactly():
    def fresh():
        return training_batches(Numbers(17), batch_size=5, seed=9, beside=Numbers(7))

    iterator = fresh()
    _take_both(iterator, 6)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = _take_both(iterator, 8)
    again = fresh()
    again.set_state(state)
    assert _take_both(again, 8) == expected


def test_processes_share_the_rows_beside():
    def take(*positions):
        batches = training_batches(
            Numbers(30), batch_size=8, seed=5, beside=Numbers(11), positions=positions
        )
        return _take_both(batches, 5)

    parts = [take(0, 1, 2, 3), take(4, 5, 6, 7)]
    for whole, *halves in zip(take(*range(8)), *parts, strict=True):
        for side in (0, 1):
            assert whole[side] == halves[0][side] + halves[1][side]


def test_an_empty_source_beside_is_refused():
    with pytest.raises(ValueError, match="the source of real clips has no rows"):
        training_batches(Numbers(4), batch_size=4, seed=0, beside=Numbers(0))


SHAPES = np.array([7, 0, 7, 7, 2, 0, 7, 7, 0, 7, 0, 7])  # 7 rows of 7, 4 of 0, 1 of 2


def test_a_batch_has_rows_of_one_shape():
    """Every row once an epoch of its shape, and batches of a shape in proportion to its rows."""
    rows = _take(training_batches(Numbers(12), batch_size=2, seed=3, shapes=SHAPES), 84)
    by_shape = {shape: [] for shape in np.unique(SHAPES)}
    for batch in rows:
        (shape,) = set(SHAPES[batch])
        by_shape[shape].append(batch)
    assert {shape: len(batches) for shape, batches in by_shape.items()} == {0: 28, 2: 7, 7: 49}
    for shape, batches in by_shape.items():
        whole = np.flatnonzero(shape == SHAPES)
        epochs = np.concatenate(batches).reshape(-1, len(whole))
        for epoch in epochs:
            assert sorted(epoch) == whole.tolist()
    sevens = np.concatenate(by_shape[7]).reshape(-1, 7)
    assert len({tuple(epoch) for epoch in sevens}) > 1
    # mixed, not one shape after the other
    assert len({SHAPES[batch[0]] for batch in rows[:12]}) == 3


def test_rows_of_one_shape_are_batched_as_without():
    plain = training_batches(Numbers(10), batch_size=4, seed=1)
    shaped = training_batches(Numbers(10), batch_size=4, seed=1, shapes=np.full(10, 5))
    assert _take(plain, 6) == _take(shaped, 6)


def test_batches_of_shapes_resume_exactly():
    def fresh():
        return training_batches(Numbers(12), batch_size=2, seed=9, shapes=SHAPES)

    iterator = fresh()
    _take(iterator, 17)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = _take(iterator, 20)
    again = fresh()
    again.set_state(state)
    assert _take(again, 20) == expected


def test_processes_share_batches_of_shapes():
    def take(*positions):
        batches = training_batches(
            Numbers(12), batch_size=4, seed=5, shapes=SHAPES, positions=positions
        )
        return _take(batches, 20)

    parts = zip(take(0, 3), take(1, 2), strict=True)  # as devices may lie
    assert [[a, b, c, d] for (a, d), (b, c) in parts] == take(0, 1, 2, 3)


@pytest.mark.parametrize("more", [{}, {"beside": Numbers(7)}, {"shapes": SHAPES}])
def test_a_batch_is_a_function_of_its_number(more):
    def fresh(**options):
        return training_batches(Numbers(12), batch_size=4, seed=3, **more, **options)

    def batch(iterator):
        return {k: str(v) for k, v in next(iterator).items()}

    iterator = fresh()
    expected = [batch(iterator) for _ in range(9)]
    for number in (7, 2, 0):
        grain.experimental.set_next_index(iterator, number)  # forth and back
        assert [batch(iterator), batch(iterator)] == expected[number : number + 2]
    half = fresh(positions=[1, 2])
    grain.experimental.set_next_index(half, 5)
    whole = fresh()
    grain.experimental.set_next_index(whole, 5)
    mine, every = next(half), next(whole)
    names = [name for name in mine if name != "real"]
    assert names
    for name in names:
        np.testing.assert_array_equal(mine[name], every[name][1:3])
