from collections import Counter

import pytest

from vidpref.datasets.video_folder import Caption, load_captions, unknown_files


@pytest.fixture
def root(tmp_path):
    (tmp_path / "videos").mkdir()
    return tmp_path


def _write(root, text):
    (root / "captions.csv").write_text(text, encoding="utf-8-sig")


def test_columns_may_come_in_any_order_and_with_a_byte_order_mark(root):
    _write(
        root, 'category,caption,split,file\nA,"a cat, twice",test,./x/1.mp4\n,a dog,train,2.mp4\n'
    )
    assert load_captions(root) == [
        Caption("x/1.mp4", "a cat, twice", "A", "test"),
        Caption("2.mp4", "a dog", "all", "train"),
    ]


def test_without_splits_captions_are_held_out_by_their_text(root):
    rows = [f"{i}.mp4,caption number {i % 1000}" for i in range(2000)]
    _write(root, "\n".join(["file,caption", *rows]))
    captions = load_captions(root, held_out=0.2)
    count = Counter(c.split for c in captions)
    assert 300 < count["test"] < 500
    assert 300 < count["validation"] < 500
    by_text = {}
    for caption in captions:  # equal captions stay together
        assert by_text.setdefault(caption.text, caption.split) == caption.split
    _write(root, "\n".join(["file,caption", *rows[500:]]))
    fewer = {c.file: c.split for c in load_captions(root, held_out=0.2)}
    assert all(fewer[c.file] == c.split for c in captions if c.file in fewer)
    assert {c.split for c in load_captions(root, held_out=0.0)} == {"train"}


def test_a_caption_of_several_lines_is_one(root):
    _write(root, 'file,caption\n1.mp4,"a cat\r\n sits, \nthen jumps"\n2.mp4,a\n')
    assert [c.text for c in load_captions(root)] == ["a cat sits, then jumps", "a"]


def test_what_spreadsheets_write(root):
    _write(root, 'file, caption , split,,\r\n..1.mp4, "a cat, twice", test,,\r\n\r\n')
    assert load_captions(root) == [Caption("..1.mp4", "a cat, twice", "all", "test")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,captions\n1.mp4,a\n", r"no column caption; it has file, captions"),
        ("name,caption\n1.mp4,a\n", r"no column file; it has name, caption"),
        ("file,caption\n1.mp4,\n", r"line 2: caption is empty"),
        ("file,caption\n1.mp4,a\n1.mp4,b\n", r"line 3: 1\.mp4 occurs twice"),
        ("file,caption\n./1.mp4,a\n1.mp4,b\n", r"line 3: 1\.mp4 occurs twice"),
        ("file,caption\n../1.mp4,a\n", r"line 2: '\.\./1\.mp4' lies outside videos/"),
        ("file,caption\n/etc/1.mp4,a\n", r"lies outside videos/"),
        ("file,caption,split\n1.mp4,a,eval\n", r"line 2: unknown split 'eval'"),
        ("file,caption\n", r"captions\.csv: no row"),
        (
            "file,caption\n1.mp4,a dog\n2.mp4,a cat sits, then jumps\n",
            r"captions\.csv, line 3: 3 fields, but the header has 2; a text with a comma needs q",
        ),
        ("file,caption,split\n1.mp4,a cat, test\n2.mp4,b,c,test\n", r"line 3: 4 fields"),
        (
            "file,caption,split\n1.mp4,a\n",
            r"line 2: 2 fields, but the header has 3; an empty",
        ),
        (
            'file,caption\n1.mp4,"a cat\n2.mp4,a dog\n',
            r"line 2: a quote is opened and never",
        ),
        ('file,caption\n1.mp4,"a"\n2.mp4,"b\n3.mp4,c"\n', r"line 3: caption goes on in the next l"),
        (
            "file,caption,splits\n1.mp4,a,test\n",
            r"column 'splits' \(did you mean split\?\)",
        ),
        ("file,caption,Category\n1.mp4,a,b\n", r"column 'Category' \(did you mean category\?\)"),
        ("file;caption\n1.mp4;a\n", r"the columns have semicolons between them; save it with comm"),
    ],
)
def test_wrong_rows_name_their_line(root, text, message):
    _write(root, text)
    with pytest.raises(ValueError, match=message):
        load_captions(root)


def test_missing_parts(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions\.csv: no such file"):
        load_captions(tmp_path)
    _write(tmp_path, "file,caption\n1.mp4,a\n")
    with pytest.raises(FileNotFoundError, match=r"videos: no such folder"):
        load_captions(tmp_path)


def test_files_without_caption_are_named(root):
    for name in ("1.mp4", "2.WEBM", "notes.txt"):
        (root / "videos" / name).write_bytes(b"")
    assert [p.name for p in unknown_files(root, [Caption("1.mp4", "a", "all", "train")])] == [
        "2.WEBM"
    ]
