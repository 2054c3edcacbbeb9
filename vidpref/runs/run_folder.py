"""Where the files that say what a run found lie: every run's in a folder of its own.

`WORKDIR/runs/NAME-FINGERPRINT/` holds the config, the report and the tables of one run. WORKDIR
itself has a copy of those of the newest one. Programs that open a finished run take either folder;
the artifacts of stages lie in WORKDIR for all of them. Importing this brings in no jax.
"""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from vidpref.files import whole_file, write_text
from vidpref.storage import mirror

RUNS = "runs"
REPORT = "report.html"
_RUN_FILE = "run.json"
_KEPT = ("config.yaml",)  # of the last run, when a comparison is made in the same work directory


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a finished run is made of, in names of folders of its work directory.

    Attributes:
        name: the config's name and scale, or "comparison".
        stages: folders of all stages.
        clips: policy -> folder of its evaluation clips.
        labels: policy -> folder of their labels; {} without a judge.
    """

    name: str
    stages: tuple[str, ...]
    clips: Mapping[str, str]
    labels: Mapping[str, str]


def run_folder(workdir: Path, name: str, stages: Iterable[str]) -> Path:
    """Returns the folder of a run, the same for the same stages.

    Args:
        workdir: the work directory.
        name: the config's name and scale, or "comparison".
        stages: folders of its stages.
    """
    digest = hashlib.sha256("\n".join(sorted(stages)).encode()).hexdigest()[:12]
    plain = re.sub(r"[^\w.+-]", "-", name)
    return workdir / RUNS / f"{plain}-{digest}"


def home(folder: Path) -> Path:
    """Returns the work directory of a folder: its own, or that of the run that it is of."""
    whole = folder.resolve()
    # A work directory may lie in a folder of this name as well; it has such a folder in it.
    of_run = whole.parent.name == RUNS and not (whole / RUNS).exists()
    return whole.parent.parent if of_run and (whole / _RUN_FILE).exists() else folder


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes `run.json` into the folder of a run."""
    write_text(folder / _RUN_FILE, json.dumps(dataclasses.asdict(record), indent=1))


def read_record(folder: Path) -> RunRecord | None:
    """Returns the record of a run's folder, or of a work directory's newest run; None without."""
    path = folder / _RUN_FILE
    if not path.exists():
        return None
    fields = json.loads(path.read_text(encoding="utf-8"))
    return RunRecord(**fields | {"stages": tuple(fields["stages"])})


def publish(folder: Path, workdir: Path) -> None:
    """Copies the files of a run's folder into the work directory, where the newest run's are.

    Files that another run left there are removed, so that no two runs' are mixed; its config stays
    where the newer one, a comparison, has none. Reports are left out: their links differ.
    """
    there = {path.name for path in folder.iterdir() if path.is_file()}
    for name in there - {REPORT}:
        with whole_file(workdir / name) as temporary:
            shutil.copyfile(folder / name, temporary)
    others = {path.name for path in workdir.glob(f"{RUNS}/*/*") if path.is_file()}
    for name in others - there - {*_KEPT}:
        mirror.remove(workdir / name)
