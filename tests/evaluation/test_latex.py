r"""LaTeX tables: every text shown letter by letter, every environment and brace closed."""

import re

import pytest

from vidpref.evaluation.latex import escape, to_latex, write_latex
from vidpref.evaluation.tables import Estimate, Table

HOSTILE = "[50%_of a&b] {x} #1 $y$ ~z^2 <w> |v| \\begin{a}* \n –"
TABLE = Table(
    f"Title {HOSTILE}",
    ["Method_a", "100 %", "n", "note"],
    [
        [HOSTILE, Estimate(0.031, -0.01, 0.072, signed=True), 3, "[a"],
        ["*dpo+beta=1e-4", None, 0.25, None],
        ["[rwr]", Estimate(0.5, 0.4, 0.6), None, "b"],
    ],
    "95 % intervals over seeds & prompts.",
)


def shown(text: str) -> str:
    """What LaTeX sets, read by the rules of its special letters."""
    words = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^"}
    words |= {"textless": "<", "textgreater": ">", "textbar": "|", "textquotedbl": '"'}
    out, i = "", 0
    while i < len(text):
        word = re.match(r"\\([a-z]+)\{\}", text[i:])
        if word:
            out, i = out + words[word[1]], i + len(word[0])
        elif text[i] == "\\":
            assert text[i + 1] in "{}_%&#$", text[i:]
            out, i = out + text[i + 1], i + 2
        else:
            assert text[i] not in "_%&#$~^\\", text[i:]
            out, i = out + text[i] * (text[i] not in "{}"), i + 1
    return out.replace("--", "–")


@pytest.mark.parametrize("text", [HOSTILE, "plain", "", "a_b_c%", '"quoted"', "\\\\", "{[*]}"])
def test_escaped_text_is_shown_letter_by_letter(text):
    assert shown(escape(text)) == text.replace("\n", " ")


def test_a_table_is_whole(tmp_path):
    text = to_latex(TABLE)
    begun, stack = re.findall(r"(?<!\\)\\(begin|end)\{(\w+)\}", text), []
    for what, name in begun:
        if what == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    rules = [line for line in text.splitlines() if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"\begin{tabular}{lrrl}" in text

    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + len(TABLE.rows)
    for row in rows:
        cells = re.split(r"(?<!\\) & ", row.removesuffix(r" \\"))
        assert len(cells) == len(TABLE.columns)
        assert not row.startswith(("[", "*"))  # else arguments of the \\ before
        for cell in cells:
            without_numbers = re.sub(r"\$[-+.\d]+\$|\$\\scriptstyle \[[-+., \d]+\]\$", "", cell)
            shown(without_numbers)
    assert r"$+3.1$ $\scriptstyle [-1.0, +7.2]$ & $3$" in rows[1]
    assert rows[2] == r"{*}dpo+beta=1e-4 & -- & $0.25$ & -- \\"

    write_latex(tmp_path / "t.tex", [TABLE, TABLE])
    written = (tmp_path / "t.tex").read_text(encoding="utf-8")
    assert written.count(r"\begin{table}") == written.count(r"\end{table}") == 2
