"""docs/notebook.ipynb: its code fits this tree, its stored outputs are those of it, and it runs."""

import ast
import json
import re
from pathlib import Path

import pytest

import vidpref
from vidpref.runs.finished_run import FinishedRun

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
CELLS = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
CODE = "\n".join("".join(cell["source"]) for cell in CELLS)
FIELDS = {"config", "workdir", "folder", "policies"}  # that `FinishedRun` sets


def attributes_of(name):
    nodes = [node for node in ast.walk(ast.parse(CODE)) if isinstance(node, ast.Attribute)]
    return {n.attr for n in nodes if isinstance(n.value, ast.Name) and n.value.id == name}


def test_its_names_are_there():
    assert {"load_config", "run", "open_run"} <= attributes_of("vidpref") <= {*vidpref.__all__}
    used = attributes_of("done")
    assert {"evaluation", "scores", "clips", "draw", "score"} <= used
    assert used <= {*dir(FinishedRun), *FIELDS}


def test_its_config_can_be_loaded():
    calls = [n for n in ast.walk(ast.parse(CODE)) if isinstance(n, ast.Call)]
    (call,) = [n for n in calls if ast.unparse(n.func) == "vidpref.load_config"]
    config = vidpref.load_config(*map(ast.literal_eval, call.args))
    assert config.name == "dpo_aif"


def test_it_is_stored_executed_and_names_no_machine():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 4
    texts = [{k: v for k, v in o.get("data", {}).items() if k != "image/png"} for o in outputs]
    shown = json.dumps([texts, [o.get("text", "") for o in outputs]])
    assert not re.findall(r"(?:/tmp|/home|/root|/work|/Users|/usr|site-packages)\b", shown)


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    where = {"metadata": {"path": str(tmp_path)}}
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=3000, resources=where).execute()
    assert (tmp_path / "runs" / "notebook" / "report.html").exists()
