#!/usr/bin/env bash
#SBATCH --job-name=vidpref
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# Runs a command with one process a GPU, on one node or several; from the checkout, whose file system
# all nodes share, as the work directory's:
#
#     sbatch --nodes=2 launch/pods/slurm.sh python launch/tpu_run.py --config=... --workdir=...
#
# --gpus-per-node and --ntasks-per-node are the same number. Two minutes before the end of its time,
# and where Slurm takes the nodes back, the run saves and ends with 143; the job is then queued again
# and goes on. So it is after a crash or a kill, at most VIDPREF_MAX_RESTARTS (50) times, and not
# after exit codes below 42, 126 and 127, which a second start would meet as well.
set -uo pipefail
if [ $# -eq 0 ]; then
  echo "no command: sbatch launch/pods/slurm.sh python launch/tpu_run.py ..." >&2
  exit 2
fi
cd "${SLURM_SUBMIT_DIR:?this is a script for sbatch}" || exit 2

export VIDPREF_FINAL=".slurm-$SLURM_JOB_ID.final" # a task that ends for good leaves its code here
rm -f "$VIDPREF_FINAL"

# Every task sees all GPUs of its node, and vidpref takes the one with its number: so they reach each
# other's memory. An error on one host ends all of them; Slurm waits a minute for that.
srun --kill-on-bad-exit=0 --wait=60 --gpu-bind=none --label bash launch/pods/task.sh "$@"
code=$?
if [ -s "$VIDPREF_FINAL" ]; then
  code="$(head -n 1 "$VIDPREF_FINAL")"
  rm -f "$VIDPREF_FINAL"
elif [ "$code" -ge 42 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${VIDPREF_MAX_RESTARTS:-50}" ]; then
  echo "exit code $code: job $SLURM_JOB_ID is queued again" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
