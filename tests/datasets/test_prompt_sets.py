"""Sets of prompts by name, and files in the layouts of public suites."""

import csv
import json

import pandas as pd
import pytest

from vidpref.datasets.prompt_sets import PROMPTS, SETS, read_prompt_set

# name -> different prompts, how many more are repeated
COUNTS = {
    "aif": (156, 4),
    "aif_train": (117, 2),
    "aif_test": (41, 0),
    "ta_hard": (72, 0),
    "vbench": (946, 0),
    "vbench_short": (944, 2),
    "videogen_eval": (400, 0),
    "videogen_eval_short": (400, 0),
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_by_name_has_all_its_prompts(name):
    found, (different, repeated) = read_prompt_set(name), COUNTS[name]
    assert (len(found.prompts), found.repeated) == (different, repeated)
    known = SETS[name]
    with (PROMPTS / known.file).open(newline="") as file:  # the standard library's reader
        rows = list(csv.DictReader(file))
    texts = [row[known.text].strip() for row in rows if known.split in ("", row.get("split"))]
    assert [prompt.text for prompt in found.prompts] == list(dict.fromkeys(texts))
    assert len({prompt.id for prompt in found.prompts}) == different


def test_aif_keeps_its_categories():
    found = read_prompt_set("aif_test")
    counts = pd.Series([prompt.category for prompt in found.prompts]).value_counts().to_dict()
    assert counts == {"OR": 8, "MO": 8, "DO": 9, "DM": 8, "FD": 8}


SUITES = {
    # VBench_full_info.json: several dimensions a prompt, more fields in some
    "full_info.json": (
        json.dumps(
            [
                {"prompt_en": "In a still frame, a bed", "dimension": ["temporal_flickering"]},
                {
                    "prompt_en": "a bird and a cat",
                    "dimension": ["multiple_objects"],
                    "auxiliary_info": {"multiple_objects": {"object": "bird and cat"}},
                },
                {"prompt_en": "a cat", "dimension": ["subject_consistency", "dynamic_degree"]},
            ]
        ),
        [
            ("In a still frame, a bed", "temporal_flickering"),
            ("a bird and a cat", "multiple_objects"),
            ("a cat", "subject_consistency + dynamic_degree"),
        ],
    ),
    # T2V-CompBench's meta_data
    "motion_binding.json": (
        '[{"prompt": "A boat sails to the left", "object_1": "boat", "d_1": "left"}]',
        [("A boat sails to the left", "")],
    ),
    # EvalCrafter, and T2V-CompBench's prompts: a line each, spaces behind some, some twice
    "prompts.txt": (
        "a horse\n\na rabbit hops \r\na horse\n",
        [("a horse", ""), ("a rabbit hops", "")],
    ),
    # VideoAlign's own files
    "ta_hard.csv": (
        'prompt,prompt_zh\n"A cat, and a dog",一只猫\nA hen,鸡\n',
        [("A cat, and a dog", ""), ("A hen", "")],
    ),
    # VideoGen-RewardBench: a prompt stands in many pairs
    "rewardbench.csv": (
        "path_A,path_B,prompt,VQ\na.mp4,b.mp4,a cat,A\na.mp4,c.mp4,a cat,same\n",
        [("a cat", "")],
    ),
    "own.jsonl": (
        '{"text": "a red ball", "category": "balls"}\n',
        [("a red ball", "balls")],
    ),
}


@pytest.mark.parametrize("name", SUITES)
def test_layouts_of_public_suites(name, tmp_path):
    written, expected = SUITES[name]
    (tmp_path / name).write_text(written)
    found = read_prompt_set(tmp_path / name)
    assert [(prompt.text, prompt.category) for prompt in found.prompts] == expected
    assert found.repeated == (1 if name in ("prompts.txt", "rewardbench.csv") else 0)


def test_the_files_of_a_folder_are_categories(tmp_path):
    (tmp_path / "2_motion.txt").write_text("a ball rolls\na kite\n")
    (tmp_path / "1_colour.txt").write_text("a red kite\na kite\n")
    found = read_prompt_set(tmp_path)
    assert [(p.text, p.category) for p in found.prompts] == [
        ("a red kite", "1_colour"),
        ("a kite", "1_colour"),
        ("a ball rolls", "2_motion"),
    ]
    assert str(found) == f"{tmp_path}: 3 prompts (1 more are repeated)"


def test_a_smaller_choice_is_part_of_a_larger_one():
    whole = read_prompt_set("vbench")
    order = [prompt.text for prompt in whole.prompts]
    chosen = [prompt.text for prompt in whole.first(90).prompts]
    assert len(chosen) == 90
    assert {p.text for p in whole.first(30).prompts} < set(chosen)
    assert chosen == [text for text in order if text in chosen]
    assert whole.first(0) is whole.first(5000) is whole
    # not the head of the file, which is one dimension of VBench
    assert order.index(chosen[-1]) > 800


def test_a_text_has_one_id_in_every_set(tmp_path):
    text = read_prompt_set("ta_hard").prompts[10].text
    (tmp_path / "own.txt").write_text(f"something else\n{text}\n")
    own = read_prompt_set(tmp_path / "own.txt").prompts
    assert own[1] == read_prompt_set("ta_hard").prompts[10]
    assert own[0].id != own[1].id


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("none.txt", None, "no such file or folder, and no set of this name; the sets are aif, "),
        ("empty.txt", "\n \n", "empty.txt: no prompt"),
        ("empty.csv", "prompt\n", "empty.csv: no row in it"),
        ("a.csv", "promt,x\na,b\n", "a.csv, line 2: no prompt or prompt_en or caption or text; "),
        ("a.csv", "prompt,x\n,b\n", "a.csv, line 2: the prompt is empty"),
        ("a.csv", 'prompt\n"a\nb"\n', "a.csv, line 2: the prompt goes on in the next line ('a"),
        ("a.json", '[{"prompt": 3}]', "a.json, entry 0: no prompt or prompt_en or caption or t"),
        ("a.json", '["a cat"]', "a.json, entry 0: no prompt"),
        ("a.json", "{}", "a.json: not a list of objects"),
        ("latin.txt", b"a caf\xe9\n", "latin.txt, line 1: not UTF-8"),
    ],
)
def test_bad_files_are_refused_by_place(name, written, message, tmp_path):
    if written is not None:
        data = written if isinstance(written, bytes) else written.encode()
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="^.*" + message.replace("(", r"\(")):
        read_prompt_set(tmp_path / name)


def test_a_folder_of_two_kinds_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.csv").write_text("prompt\nb\n")
    with pytest.raises(ValueError, match=r"wanted prompt files of one kind, it has .csv and .txt"):
        read_prompt_set(tmp_path)
