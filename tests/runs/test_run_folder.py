"""Every run keeps its own files; the work directory has those of the newest."""

from pathlib import Path

import pytest

from vidpref.runs.run_folder import RunRecord, home, publish, read_record, run_folder, write_record

STAGES = ["data-000000000000", "align-dpo-round1-111111111111"]


def finish(workdir, name, stages, files):
    folder = run_folder(workdir, name, stages)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    write_record(folder, RunRecord(name, tuple(stages), {"dpo": stages[-1]}, {}))
    publish(folder, workdir)
    return folder


def test_a_folder_is_named_after_the_stages_of_its_run(tmp_path):
    folder = run_folder(tmp_path, "dpo_aif:mini", STAGES)
    assert folder == run_folder(tmp_path, "dpo_aif:mini", STAGES[::-1])
    assert folder != run_folder(tmp_path, "dpo_aif:mini", [*STAGES, "label-222222222222"])
    assert folder.parent == tmp_path / "runs"
    assert folder.name.startswith("dpo_aif-mini-")


def test_the_newest_run_is_at_the_top_and_none_is_lost(tmp_path):
    judged = {"config.yaml": "beta: 1", "evaluation.json": "{}", "evaluation.csv": "a"}
    first = finish(tmp_path, "dpo:mini", STAGES, judged)
    second = finish(
        tmp_path, "dpo:mini", STAGES[:1], {"config.yaml": "beta: 2", "training.csv": ""}
    )
    assert (tmp_path / "config.yaml").read_text() == "beta: 2"
    assert (tmp_path / "training.csv").exists()
    assert not list(tmp_path.glob("evaluation*"))  # of the first, not of the newest
    assert (first / "config.yaml").read_text() == "beta: 1"
    assert read_record(tmp_path) == read_record(second)
    assert read_record(first).stages == tuple(STAGES)
    finish(tmp_path, "dpo:mini", STAGES, judged)  # the same command again
    assert (tmp_path / "config.yaml").read_text() == "beta: 1"
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_comparison_leaves_the_config_of_the_run_before(tmp_path):
    finish(tmp_path, "dpo:mini", STAGES, {"config.yaml": "beta: 1"})
    (tmp_path / "notes.txt").write_text("the user's own")
    finish(tmp_path, "comparison", STAGES, {"comparison.md": "", "dpo.yaml": ""})
    assert (tmp_path / "config.yaml").read_text() == "beta: 1"
    assert (tmp_path / "notes.txt").exists()
    finish(tmp_path, "dpo:mini", STAGES, {"config.yaml": "beta: 1"})
    assert not (tmp_path / "comparison.md").exists()


def test_stages_lie_in_the_work_directory_of_a_runs_folder(tmp_path):
    folder = finish(tmp_path, "dpo:mini", STAGES, {})
    assert home(folder) == tmp_path
    assert home(tmp_path) == tmp_path


def test_a_work_directory_may_itself_lie_in_a_folder_called_runs(tmp_path):
    workdir = tmp_path / "runs" / "quickstart"
    folder = finish(workdir, "dpo:mini", STAGES, {})
    assert home(workdir) == workdir
    assert home(folder) == workdir


@pytest.mark.parametrize("given", [".", "../dpo-mini"])
def test_a_runs_folder_may_be_given_by_a_relative_path(tmp_path, monkeypatch, given):
    folder = tmp_path / "runs" / "dpo-mini"
    folder.mkdir(parents=True)
    write_record(folder, RunRecord("dpo:mini", (), {}, {}))
    monkeypatch.chdir(folder)
    assert home(Path(given)) == tmp_path
