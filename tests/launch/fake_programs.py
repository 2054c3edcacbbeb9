"""Programs of a cloud or a cluster that are not there: small scripts in front of PATH.

Each writes its arguments down and does what the real one would, on this machine:
`gcloud ... ssh --worker=all` runs its command once a worker, each in a home of its own.
"""

import os
import stat
from pathlib import Path

RECORD = """#!/usr/bin/env bash
{{ printf '%s\\037' "$@"; printf '\\036'; }} >> "$FAKE_LOGS/{name}"
{body}
"""
# worker 3 is the host t1v-n-0-w-3; like the real one, its last status is that of a failed worker
GCLOUD = """
status=0
for worker in $(seq 0 $((FAKE_WORKERS - 1))); do
  home="$FAKE_HOMES/$worker"
  mkdir -p "$home"
  for argument in "$@"; do
    case "$argument" in
      --command=*) (
        cd "$home" && HOME="$home" HOSTNAME="t1v-n-0-w-$worker" FAKE_WORKER="$worker" \\
          bash -c "${argument#--command=}"
      ) || status=$? ;;
      *.tar.gz) case "$argument" in *:*) ;; *) cp "$argument" "$home/vidpref.tar.gz" ;; esac ;;
    esac
  done
done
exit "${FAKE_GCLOUD_STATUS:-$status}"
"""
# metadata of an instance, a file an attribute
CURL = """
cat "$FAKE_METADATA/$(basename "${@: -1}")" 2> /dev/null || exit 22
"""
# all tasks side by side; those left a moment (--wait) after the first has ended are killed,
# and the status is the highest
SRUN = """
while [ "${1#--}" != "$1" ]; do shift; done
pids=()
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
  SLURM_PROCID="$task" setsid "$@" &
  pids+=($!)
done
trap 'for pid in "${pids[@]}"; do kill -TERM -- "-$pid"; done' TERM
wait -n "${pids[@]}"
most=$?
for _ in 1 2 3 4 5 6; do
  sleep 0.05
  for pid in "${pids[@]}"; do kill -0 "$pid" 2> /dev/null && continue 2; done
  exit "$most"
done
for pid in "${pids[@]}"; do kill -KILL -- "-$pid" 2> /dev/null && most=137; done
exit "$most"
"""
SCONTROL = ""


class Fakes:
    """A folder of programs, with what they were called with.

    Args:
        folder: empty folder for them.
        programs: name -> what it does, in bash.
    """

    def __init__(self, folder: Path, **programs: str):
        self._folder = folder
        self.homes, self.metadata = folder / "homes", folder / "metadata"
        for place in ("bin", "logs", "homes", "metadata"):
            (folder / place).mkdir(parents=True)
        for name, body in programs.items():
            path = folder / "bin" / name.replace("_", "-")
            path.write_text(RECORD.format(name=name, body=body))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def environment(self, **more: str) -> dict[str, str]:
        """Returns the environment in which these programs are found first."""
        unwanted = ("JAX_", "SLURM_", "VIDPREF_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        return {
            **kept,
            "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_LOGS": str(self._folder / "logs"),
            "FAKE_HOMES": str(self.homes),
            "FAKE_METADATA": str(self.metadata),
            **more,
        }

    def calls(self, name: str) -> list[list[str]]:
        """Returns the arguments of every call of a program."""
        path = self._folder / "logs" / name
        calls = path.read_text().split("\036")[:-1] if path.exists() else []
        return [call.split("\037")[:-1] for call in calls]
