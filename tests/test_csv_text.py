"""CSV of users: what is read as a spreadsheet means it, and what is refused, in which line."""

import csv
import io

import numpy as np
import pytest

from vidpref.csv_text import read_csv

NEEDED = ("file", ("text", "words"))


def read(tmp_path, text, needed=NEEDED, optional=("split",)):
    path = tmp_path / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    columns, rows = read_csv(path, needed, optional)
    return columns, [(where.removeprefix(f"{path}, "), row) for where, row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "file,text\na,b\n\nc,d\n",
        "file,text\r\na,b\r\n\r\nc,d\r\n",
        "\ufefffile,text\na,b\n\nc,d",
        "file , text\na,b\n\nc, d\n",
        'file,text,,\na,b,,\n\n"c","d",, \n',
        '"file","text"\n"a","b"\n\n"c", "d"\n',
    ],
)
def test_what_spreadsheets_write(tmp_path, text):
    columns, rows = read(tmp_path, text)
    assert columns == ["file", "text"]
    assert rows == [
        ("line 2", {"file": "a", "text": "b"}),
        ("line 4", {"file": "c", "text": "d"}),
    ]


def test_quoted_fields_and_other_columns(tmp_path):
    columns, rows = read(tmp_path, 'words,mine,file\n"a ""b"", c\nd",1,x\n"e",2,y\n')
    assert columns == ["words", "mine", "file"]
    assert rows == [
        ("line 2", {"words": 'a "b", c\nd', "mine": "1", "file": "x"}),
        ("line 4", {"words": "e", "mine": "2", "file": "y"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,text\na,b\nc,d, e\n", "x.csv, line 3: 3 fields, but the header has 2; a text with"),
        ("file,text\na,b,\n", "line 2: 3 fields"),
        ("file,text\na\n", "line 2: 1 fields, but the header has 2; an empty field"),
        ("file,text,\na,b, then c\n", "line 2: 'then c' stands in a column without a name; a text"),
        ("file,text,file\na,b,c\n", "x.csv: the column 'file' stands twice"),
        ("file,txt\na,b\n", "x.csv: no column text or words; it has file, txt"),
        ("", "x.csv: no column file, text or words; it has none"),
        ("file,text,Split\na,b,c\n", r"x.csv: unknown column 'Split' \(did you mean split\?\)"),
        ("file;text\na;b\n", "x.csv: the columns have semicolons between them; save it with"),
        ("file\ttext\na\tb\n", "x.csv: the columns have tabs between them"),
        ("file|text\na|b\n", "x.csv: the columns have bars between them"),
        ('file,text\na,b\nc,"d\ne,f\n', "line 3: a quote is opened and never closed"),
        ('file,text\nc,"d\n' + "e,f\n" * 50_000, "line 2: a quote is opened and never closed"),
        ('file,text\nc,"d" e\n', "line 2: not CSV: ',' expected after '\"'; quotes stand around"),
        ('file,text\nc,"d\ne,"f"\n', "line 2: not CSV"),
        (b"file,text\na,b\nc,caf\xe9\n", "x.csv, line 3: not UTF-8"),
        (b"file,text\na,b\x00\n", "x.csv, line 2: a NUL byte"),
        ("file,text\n".encode("utf-16"), "x.csv: not UTF-8 but UTF-16"),
    ],
)  # fmt: skip
def test_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_tables_at_random_come_back(tmp_path):
    """Whatever a CSV writer quotes; and all rows or none where a comma lost its quotes."""
    rng = np.random.default_rng(0)
    parts = ["a", "b c", ",", '"', '""', "\n", "é", ";", "'", "  x"]
    for _ in range(200):
        count = rng.integers(1, 6)
        rows = [
            [str(i), "x" + "".join(rng.choice(parts, rng.integers(0, 5)))] for i in range(count)
        ]
        out = io.StringIO()
        ending = ["\n", "\r\n"][rng.integers(2)]
        csv.writer(out, lineterminator=ending).writerows([["file", "text"], *rows])
        _, found = read(tmp_path, out.getvalue())
        assert [[row["file"], row["text"]] for _, row in found] == rows
        plain = "\n".join(["file,text", *(",".join(row).replace('"', "") for row in rows)])
        if any("\n" in text for _, text in rows):
            continue
        first = next((i for i, (_, text) in enumerate(rows) if "," in text), None)
        if first is None:
            assert len(read(tmp_path, plain)[1]) == len(rows)
        else:
            with pytest.raises(ValueError, match=f"line {first + 2}: "):
                read(tmp_path, plain)
