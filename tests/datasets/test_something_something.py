import json

import pytest

from vidpref.datasets.prompts import Prompt
from vidpref.datasets.something_something import (
    Label,
    find_layout,
    find_prompt_clips,
    load_ids,
    load_labels,
    unknown_videos,
)


def _entry(**changes):
    entry = {
        "id": "78687",
        "label": "holding potato next to vicks vaporub bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks vaporub bottle"],
    }
    return entry | changes


def _label(number, text):
    return Label(str(number), text, "")


def _prompt(number, text):
    return Prompt(f"OR-train-{number:02d}", text, "OR", "train")


def test_labels_of_the_published_form(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([_entry(), _entry(id=42)]))
    assert load_labels(path) == [
        Label(
            "78687",
            "holding potato next to vicks vaporub bottle",
            "Holding something next to something",
        ),
        Label(
            "42",
            "holding potato next to vicks vaporub bottle",
            "Holding something next to something",
        ),
    ]


@pytest.mark.parametrize("placeholders", [None, "a potato", [], [None], 7])
def test_placeholders_are_not_read(tmp_path, placeholders):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([_entry(id=0, placeholders=placeholders), _entry(id=" 7 ")]))
    assert [label.id for label in load_labels(path)] == ["0", "7"]


def test_a_test_list_may_lack_labels(tmp_path):
    path = tmp_path / "test.json"
    path.write_text(json.dumps([{"id": "1420"}, {"id": 7, "label": None}, {"id": "1420"}]))
    assert load_ids(path) == {"1420", "7"}
    for entries, message in (
        ({"id": "1"}, r"test\.json: not a list of labels but a dict"),
        (["1420"], r"test\.json, entry 0: not an object with id, label, template but '1420'"),
        ([{"id": "1"}, {}], r"test\.json, entry 1: id=None is neither a text nor a whole number"),
        ([{"id": None}], r"entry 0: id=None"),
        ([{"id": [1]}], r"entry 0: id=\[1\]"),
    ):
        path.write_text(json.dumps(entries))
        with pytest.raises(ValueError, match=message):
            load_ids(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", r"train\.json, line 1: not JSON"),
        ('{"a": 1}', r"train\.json: not a list of labels but a dict"),
        (json.dumps([_entry(), _entry(id="1", label="")]), r"entry 1: label='' is empty"),
        (json.dumps([{"id": 5}]), r"entry 0: no label, template"),
        (json.dumps([7]), r"entry 0: not an object with id, label, template but 7"),
        (json.dumps([_entry(), _entry()]), r"entry 1: id 78687 occurs twice"),
        (json.dumps([_entry(), _entry(id=78687)]), r"entry 1: id 78687 occurs twice"),
        (json.dumps([_entry(label=" \t")]), r"entry 0: label=' \\t' is empty"),
        (json.dumps([_entry(label="a\nb")]), r"entry 0: label='a\\nb' has a line break"),
        (json.dumps([_entry(label=["a", "b"])]), r"entry 0: label=\['a', 'b'\] is not a text"),
        (json.dumps([_entry(label=5)]), r"entry 0: label=5 is not a text"),
        (json.dumps([_entry(label=None)]), r"entry 0: no label in"),
        (json.dumps([_entry(template="[]")]), r"entry 0: template='\[\]' is empty"),
        (json.dumps([_entry(template=None)]), r"entry 0: no template in"),
        (json.dumps([_entry(id=None)]), r"entry 0: no id in"),
        (json.dumps([_entry(id="")]), r"entry 0: id='' is not the name of a video"),
        (json.dumps([_entry(id="../1")]), r"entry 0: id='../1' is not the name of a video"),
        (json.dumps([_entry(id=True)]), r"entry 0: id=True is neither a text nor a whole number"),
        (json.dumps([_entry(id=1.5)]), r"entry 0: id=1\.5 is neither"),
        (json.dumps([[]]), r"entry 0: not an object"),
        ("null", r"train\.json: not a list of labels but a NoneType"),
        ('[{"id": "1",\n"id": "2"}]', r"train\.json, line 2: the key 'id' stands twice"),
    ],
)
def test_wrong_labels_name_file_and_entry(tmp_path, text, message):
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_labels(path)


@pytest.mark.parametrize("form", ["labels/{}.json", "something-something-v2-{}.json"])
@pytest.mark.parametrize("folder", ["20bn-something-something-v2", "videos"])
def test_both_published_layouts_are_found(tmp_path, form, folder):
    for split in ("train", "validation"):
        path = tmp_path / form.format(split)
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    (tmp_path / folder).mkdir()
    for number in (1, 2, 3):
        (tmp_path / folder / f"{number}.webm").write_bytes(b"")
    layout = find_layout(tmp_path)
    assert layout.train == tmp_path / form.format("train")
    assert layout.test is None
    assert layout.video("2").exists()
    assert [p.stem for p in unknown_videos(layout, ["1", "3"])] == ["2"]


def test_a_missing_part_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder \(config\.data\.path\)"):
        find_layout(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no train labels; looked for labels/train\.json"):
        find_layout(tmp_path)
    for split in ("train", "validation"):
        (tmp_path / f"{split}.json").write_text("[]")
    with pytest.raises(FileNotFoundError, match=r"no folder with \.webm files; looked in 20bn"):
        find_layout(tmp_path)


def test_prompts_match_labels_by_their_words():
    labels = [
        _label(1, "Pushing rubik's cube from right to left"),
        _label(2, "twisting (wringing) shirt wet until water comes out"),
        _label(3, "putting cellphone, usb flashdisk and gas lighter on the table"),
        _label(4, "pushing rubik cube from right to left"),
    ]
    prompts = [
        _prompt(1, "pushing rubik ' s cube from right to left"),
        _prompt(2, "twisting (wringing) shirt wet until water comes out"),
        _prompt(3, "putting cellphone , usb flashdisk and gas lighter on the table"),
        _prompt(4, "pushing cube from right to left"),
    ]
    found, unmatched = find_prompt_clips(prompts, labels)
    assert found == {"OR-train-01": "1", "OR-train-02": "2", "OR-train-03": "3"}
    assert unmatched == [prompts[3]]


def test_equal_prompts_get_different_videos_while_there_are_any():
    labels = [_label(n, "tearing paper") for n in (110, 20, 3)]
    prompts = [_prompt(n, "tearing paper") for n in range(1, 5)]
    found, unmatched = find_prompt_clips(prompts, labels)
    assert list(found.values()) == ["3", "20", "110", "3"]
    assert not unmatched
    assert find_prompt_clips(prompts, labels[::-1])[0] == found
