import json

import numpy as np
import pytest

from vidpref.datasets.clip_lists import list_clips


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def rows(listed, *columns):
    return list(listed.clips[list(columns or ("id", "prompt"))].itertuples(index=False, name=None))


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path / "clips", "b/2.webm", "a.mp4", "c.MOV", "notes.txt")
    return tmp_path / "clips"


def test_a_folder_with_a_prompt_a_line(folder, tmp_path):
    (tmp_path / "prompts.txt").write_text("one\ntwo, too\nthree\n")
    listed = list_clips(folder, tmp_path / "prompts.txt")
    assert rows(listed) == [("a.mp4", "one"), ("b/2.webm", "two, too"), ("c.MOV", "three")]
    assert listed.clips["path"].iloc[1] == str(folder / "b" / "2.webm")
    assert np.isnan(listed.clips["fps"]).all()


def test_an_empty_prompt_is_left_out_by_line(folder, tmp_path):
    (tmp_path / "prompts.txt").write_text("one\n \nthree")
    listed = list_clips(folder, tmp_path / "prompts.txt")
    assert rows(listed) == [("a.mp4", "one"), ("c.MOV", "three")]
    assert listed.skipped.rows == [
        (f"{tmp_path}/prompts.txt, line 2", "malformed row", "the prompt is empty")
    ]


def test_one_prompt_for_all_or_a_list(folder, tmp_path):
    assert {prompt for _, prompt in rows(list_clips(folder, prompt="a fox"))} == {"a fox"}
    (tmp_path / "list.csv").write_text("path,prompt,fps\nc.MOV,three,8\n")
    assert rows(list_clips(folder, tmp_path / "list.csv"), "id", "fps") == [("c.MOV", 8.0)]


def test_captions_beside_the_videos(tmp_path):
    touch(tmp_path, "videos/1.mp4")
    (tmp_path / "captions.csv").write_text("file,caption,split\n1.mp4,a cat,test\n")
    listed = list_clips(tmp_path)
    assert rows(listed) == [("1.mp4", "a cat")]
    assert listed.clips["path"][0] == str(tmp_path / "videos" / "1.mp4")


def test_a_list_with_bad_rows(tmp_path):
    path = tmp_path / "list.jsonl"
    records = [
        {"video": "a.mp4", "prompt": "a cat", "fps": 24},
        {"video": "b.mp4", "prompt": "a cat", "fps": -1},
        {"video": "", "prompt": "a cat"},
        {"video": "a.mp4", "prompt": "a dog"},
        {"video": "a.mp4", "prompt": "a cat"},
        7,
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    listed = list_clips(path, root=tmp_path / "clips")
    assert rows(listed, "id", "prompt", "fps") == [("a.mp4", "a cat", 24.0)]
    assert listed.clips["path"][0] == str(tmp_path / "clips" / "a.mp4")
    assert [detail for _, _, detail in listed.skipped.rows] == [
        "fps=-1 is not a positive number",
        "the path of a clip is empty",
        f"clip a.mp4 has prompt 'a dog', but 'a cat' before (first named in {path}, line 1); a "
        "clip has one",
        "not an object but 7",
    ]


def test_all_clips_of_pairs(tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "path_A,path_B,prompt,Overall,fps_A\na.mp4,b.mp4,p,A,8\na.mp4,c.mp4,p,same,8\nd.mp4,,p,A,8\n"
    )
    listed = list_clips(tmp_path / "pairs.csv")
    assert [name for name, _ in rows(listed)] == ["a.mp4", "b.mp4", "c.mp4"]
    assert len(listed.skipped) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,prompt\na,b\n", "no column path_A, path_B"),
        ("path,words\na.mp4,b\n", "no column prompt or caption or text; it has path, words"),
        ("path,prompt\na.mp4,\n", "no clip that can be judged; .*line 2: the prompt is empty"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        list_clips(tmp_path / "list.csv")


def test_folders_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(ValueError, match="a folder of videos needs prompts"):
        list_clips(folder)
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match=r"prompts\.txt has 2 lines, and .*clips 3 videos"):
        list_clips(folder, tmp_path / "prompts.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no video in it"):
        list_clips(tmp_path / "empty", prompt="a")
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        list_clips(tmp_path / "nowhere")
