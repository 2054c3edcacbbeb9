r"""Tables for papers: LaTeX with booktabs.

A document that takes them needs `\usepackage{booktabs}` and, for names with letters that are not
ASCII, nothing more than a LaTeX of 2018 or later (UTF-8 is its default).
"""

from collections.abc import Sequence
from pathlib import Path

from vidpref.evaluation.tables import Cell, Estimate, Table, cell_text
from vidpref.files import write_text

# A `[` or `*` at the beginning of a row would be taken for an argument of the `\\` before it.
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "–": "--",
    "\n": " ",
}


def escape(text: str) -> str:
    """Returns text as LaTeX shows it, letter by letter."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def to_latex(table: Table) -> str:
    """Returns a `table` environment with title and caption; numbers are set as mathematics."""
    columns = "".join("r" if numeric else "l" for numeric in table.numeric())
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_sentence(table)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row([escape(name) for name in table.columns]),
        r"\midrule",
        *(_row([_cell(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def write_latex(path: Path, tables: Sequence[Table]) -> None:
    """Writes tables below each other as one file for `\\input`."""
    head = "% \\usepackage{booktabs} in the preamble\n"
    write_text(path, "\n".join([head, *map(to_latex, tables)]))


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    if cell is None:
        return "--"
    if isinstance(cell, Estimate):
        value, _, interval = str(cell).partition(" ")
        return f"${value}$ $\\scriptstyle {interval}$"
    if isinstance(cell, float):
        text = cell_text(cell)
        return f"${text}$" if "e" not in text else escape(text)
    return f"${cell}$" if isinstance(cell, int) else escape(cell)


def _sentence(table: Table) -> str:
    return " ".join(escape(text.rstrip(".")) + "." for text in (table.title, table.caption) if text)
