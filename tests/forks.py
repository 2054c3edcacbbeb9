"""Runs a script as several processes: `python forks.py COUNT PORT OUT WORKER ARGUMENTS...`.

Each is a fork of this one, which has imported what the script imports, and runs it as
`python WORKER RANK PORT ARGUMENTS...`. What they print goes to OUT/RANK.txt, their exit codes to
OUT/codes.json.
"""

import json
import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    count, port, out, worker, *arguments = sys.argv[1:]
    runpy.run_path(worker, run_name="imported")
    pids = []
    for rank in range(int(count)):
        pids.append(os.fork())
        if pids[-1] == 0:
            output = os.open(Path(out) / f"{rank}.txt", os.O_WRONLY | os.O_CREAT, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.argv = [worker, str(rank), port, *arguments]
            runpy.run_path(worker, run_name="__main__")
            sys.exit(0)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    (Path(out) / "codes.json").write_text(json.dumps(codes))
