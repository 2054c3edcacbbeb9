#!/usr/bin/env bash
# One task of slurm.sh, which is one process with one GPU. Notes an exit code after which the job must
# not start again: Slurm's own code of a job is the highest of all tasks, also of those that it
# killed because another had ended.
set -uo pipefail
export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
if [ -f .venv/bin/activate ]; then
  # shellcheck source=/dev/null
  source .venv/bin/activate
fi
trap : TERM # Slurm signals every process of a task; this one waits for the program to save
"$@"
code=$?
if { [ "$code" -ge 1 ] && [ "$code" -lt 42 ]; } || [ "$code" -eq 126 ] || [ "$code" -eq 127 ]; then
  echo "$code" >> "$VIDPREF_FINAL"
fi
exit "$code"
