"""The files and names that the documents speak of are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *("docs/architecture.md", "docs/words.md", "docs/extend.md", "docs/pods.md"),
    "CONTRIBUTING.md",
)
FILE = re.compile(r"`([\w./]+\.(?:py|md|sh|toml))(?::([\w.]+))?`")
LINK = re.compile(r"\]\(([^)#:]+)\)")


def prose(document):
    """A document without its blocks of code, whose files need not be there."""
    return re.sub(r"(?ms)^```.*?^```$", "", (ROOT / document).read_text())


def place(name):
    """Where a file lies, below the root or below vidpref/."""
    return next((p for p in (ROOT / name, ROOT / "vidpref" / name) if p.exists()), None)


def defined(path):
    """Names that a module defines, and those of its classes behind the class's name."""
    names = set()

    def visit(body, prefix=""):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    visit(ast.parse(path.read_text()).body)
    return names


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_file_and_function_is_there(document):
    found = FILE.findall(prose(document))
    assert found
    lost = [file for file, _ in found if place(file) is None]
    assert not lost, f"{document} names files that are not there"
    lost = [f"{f}:{n}" for f, n in found if n and n not in defined(place(f))]
    assert not lost, f"{document} names what its file does not define"


@pytest.mark.parametrize("document", [*DOCUMENTS, "README.md"])
def test_links_lead_somewhere(document):
    folder = (ROOT / document).parent
    lost = [link for link in LINK.findall(prose(document)) if not (folder / link).exists()]
    assert not lost, f"{document} links to files that are not there"
