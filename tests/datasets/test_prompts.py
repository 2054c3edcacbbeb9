from collections import Counter
from pathlib import Path

import pytest

from vidpref.datasets.prompts import Prompt, load_prompts, with_validation

ROOT = Path(__file__).parents[2]
AIF = ROOT / "data" / "prompts" / "something_something_v2.csv"


def _write(path, *lines):
    path.write_text("\n".join(["category,split,number,prompt", *lines]) + "\n")
    return path


def test_the_160_prompts_of_aif():
    prompts = load_prompts(AIF)
    assert len(prompts) == 160
    assert len({p.id for p in prompts}) == 160
    count = Counter((p.category, p.split) for p in prompts)
    for category in ("OR", "MO", "DM", "FD"):
        assert (count[category, "train"], count[category, "test"]) == (24, 8)
    assert (count["DO", "train"], count["DO", "test"]) == (23, 9)  # as printed in the paper
    assert prompts[0] == Prompt("OR-train-01", "digging key out of sand", "OR", "train")
    assert prompts[3].text == "removing beetroot , revealing cauliflower piece behind"


def test_a_byte_order_mark_and_line_breaks_of_another_system(tmp_path):
    path = tmp_path / "set.csv"
    path.write_bytes(b"\xef\xbb\xbfcategory,split,number,prompt\r\nOR,train,1,a cat\r\n")
    assert load_prompts(path) == [Prompt("OR-train-01", "a cat", "OR", "train")]


def test_they_are_the_published_file():
    shared = ROOT.parent / "shared" / "data" / "ssv2_challenging_movements.csv"
    if not shared.exists():
        pytest.skip("the published prompt file is not beside the checkout")
    assert AIF.read_text() == shared.read_text()


def test_validation_is_carved_out_of_train_evenly_and_by_text():
    prompts = load_prompts(AIF)
    split = with_validation(prompts, 0.25, seed=1)
    assert split == with_validation(prompts, 0.25, seed=1)
    assert split != with_validation(prompts, 0.25, seed=2)
    assert [(p.id, p.text) for p in split] == [(p.id, p.text) for p in prompts]
    for before, after in zip(prompts, split, strict=True):
        assert after.split == before.split or (before.split, after.split) == ("train", "validation")
    texts = {s: {p.text for p in split if p.split == s} for s in ("train", "validation")}
    assert not texts["train"] & texts["validation"]
    count = Counter(
        p.category for p in {p.text: p for p in split if p.split == "validation"}.values()
    )
    assert count == {"OR": 6, "MO": 6, "DO": 6, "DM": 6, "FD": 6}
    assert with_validation(prompts, 0.0, seed=1) == prompts
    with pytest.raises(ValueError, match=r"validation_fraction=1.0 must be in \[0, 1\)"):
        with_validation(prompts, 1.0, seed=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("XX,train,1,a", r"line 2: unknown category 'XX'"),
        ("OR,tran,1,a", r"line 2: unknown split 'tran' \(did you mean train\?\)"),
        ("OR,train,one,a", r"line 2: number 'one' is not a number"),
        ("OR,train,²,a", r"line 2: number '²' is not a number"),
        ("OR,train,1,", r"line 2: the prompt is empty"),
        ("OR,train,1,a cat, a dog", r"line 2: 5 fields, but the header has 4; a text with a comma"),
        ('OR,train,1,"a\nb"', r"line 2: the prompt goes on in the next line"),
        ('OR,train,1,"a', r"line 2: a quote is opened and never closed"),
        ("OR,train", r"line 2: 2 fields, but the header has 4"),
        ("OR,train,1,a\nOR,train,1,b", r"line 3: OR-train-01 occurs twice"),
        ("", r"no prompt"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, message):
    path = _write(tmp_path / "set.csv", line)
    with pytest.raises(ValueError, match=rf"set\.csv.*{message}"):
        load_prompts(path)


def test_missing_columns_and_file(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("category,prompt\nOR,a\n")
    with pytest.raises(ValueError, match="no column split, number"):
        load_prompts(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: no such prompt set"):
        load_prompts(tmp_path / "nowhere.csv")
