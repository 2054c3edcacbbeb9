"""JSON of users: what is refused, and in which line."""

import json
import math

import numpy as np
import pytest

from vidpref.json_text import parse_json, read_json


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"a": [1, 2.5, None, True, 'é\t"\\ \U0001f600']}, "b": [{"a": 1}, {"a": 1}]},
        [],
        "a text",
        10**30,
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_good_json_is_what_json_reads(tmp_path, value, ascii_only):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=ascii_only).encode())
    assert read_json(path) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "x.json, line 7: the key 'a' stands twice in one object; remove one"),
        ('[{"a": 1},\n{"b": {"c": [],\n"d": 1, "c": 2}}]', "line 9: the key 'c' stands twice"),
        ('{"a": "x, \\"a\\": {",\n "b": 1,\n"\\u0061": 1}', "line 9: the key 'a' stands twice"),
        ('{"a": "a", "b": ["a", "a"],\n"a": 1}', "line 8: the key 'a'"),
        ('["NaN",\nNaN]', "line 8: NaN is not a finite number"),
        ("[\n-Infinity]", "line 8: -Infinity is not a finite number"),
        ('{"a":\n\n 1e999}', "line 9: 1e999 is not a finite number"),
        (
            '["\\ud83d\\ude00",\n"\\ud83d"]',
            r"line 8: the string '\\ud83d' holds what is no",
        ),
        ('["\\u0000"]', r"line 7: the string '\\x00' holds what is no character"),
        ('NaNd": "1"}', "line 7: NaN is not a finite number"),
        ('NaN"\n"', "line 7: NaN is not a finite number"),
        ("NaN}", "line 7: NaN is not a finite number"),
        ('{"a": 1,\n}', r"line 8: not JSON: .* \(column 1\)"),
        ("", "line 7: not JSON: Expecting value"),
        ("{} {}", "line 7: not JSON: Extra data"),
        ("[" * 10**5, "line 7: not JSON that can be read: maximum recursion depth"),
        ("9" * 10**4, "line 7: not JSON that can be read: Exceeds the limit"),
    ],
)
def test_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text, "x.json", line=7)


def test_wrong_bytes_and_files(tmp_path):
    path = tmp_path / "x.json"
    for data, message in (
        ('["é"]'.encode("latin-1"), "x.json, line 1: not UTF-8"),
        ('["é"]'.encode("utf-16"), "x.json: not UTF-8 but UTF-16; save it as UTF-8"),
        (b'[1,\n"\x00"]', "x.json, line 2: a NUL byte"),
        ("[1]".encode("utf-16-le"), "x.json, line 1: a NUL byte; the file is damaged, or UTF-16"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            read_json(path)
    with pytest.raises(ValueError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(ValueError, match="a folder, where a file is wanted"):
        read_json(tmp_path)


def _value(rng, depth):
    match rng.integers(0, 4 if depth else 2):
        case 0:
            return ["", "a", 'b"', "c\\", "{", "\n", "é", "NaN"][rng.integers(8)]
        case 1:
            return [None, True, -1, 0.5, 3][rng.integers(5)]
        case 2:
            return [_value(rng, depth - 1) for _ in range(rng.integers(4))]
        case _:
            return _Pairs((_value(rng, 0), _value(rng, depth - 1)) for _ in range(rng.integers(5)))


class _Pairs(list):
    """An object whose keys may stand twice."""


def _written(value, breaks):
    if isinstance(value, _Pairs):
        pairs = (f"{json.dumps(str(k))}:{breaks}{_written(v, breaks)}" for k, v in value)
        return f"{{{breaks}" + f",{breaks}".join(pairs) + "}"
    if isinstance(value, list):
        return f"[{breaks}" + f",{breaks}".join(_written(v, breaks) for v in value) + "]"
    return json.dumps(value)


def _twice(value):
    if isinstance(value, _Pairs):
        keys = [str(k) for k, _ in value]
        return len(set(keys)) < len(keys) or any(_twice(v) for _, v in value)
    return isinstance(value, list) and any(map(_twice, value))


def test_objects_at_random():
    rng, refused = np.random.default_rng(0), 0
    for _ in range(1000):
        value = _value(rng, 4)
        text = _written(value, ["", "\n", " "][rng.integers(3)])
        if not _twice(value):
            assert parse_json(text, "x.json") == json.loads(text)
            continue
        with pytest.raises(ValueError, match="stands twice in one object"):
            parse_json(text, "x.json")
        refused += 1
    assert 20 < refused < 300
    assert math.isclose(parse_json("1.5e300", "x.json"), 1.5e300)
