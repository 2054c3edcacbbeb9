#!/usr/bin/env bash
# Runs a command on all workers of an existing slice of TPU VMs (Cloud TPU API), from the checkout:
#
#     launch/pod.sh --tpu=NAME --zone=ZONE -- python launch/tpu_run.py --config=... --workdir=...
#     launch/pod.sh --tpu=NAME --zone=ZONE --nocopy -- pkill -TERM -f '[t]pu_run.py'
#
#   --project=PROJECT  if it is not gcloud's default
#   --nocopy           leaves the workers' checkout as it is; otherwise this one is copied to
#                      ~/vidpref of every worker and installed there
#   --dry_run          prints the commands
#
# Every line of output begins with the number of its worker. The exit code is that of the worker that
# ended with an error of its own (below 42), else the highest one. A lost connection ends the run on
# that worker: start this in tmux on a machine near the slice. The same command goes on.
set -euo pipefail

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

fail() {
  echo "$1" >&2
  echo "(launch/pod.sh --help shows how.)" >&2
  exit 2
}

tpu="" zone="" project="" copy=1 dry_run=""
while [ $# -gt 0 ]; do
  case "$1" in
    --tpu=*) tpu="${1#*=}" ;;
    --zone=*) zone="${1#*=}" ;;
    --project=*) project="${1#*=}" ;;
    --nocopy) copy="" ;;
    --dry_run) dry_run=1 ;;
    --help | -h) usage && exit ;;
    --)
      shift
      break
      ;;
    *) fail "not understood: $1; the command comes behind --" ;;
  esac
  shift
done
[ -n "$tpu" ] || fail "--tpu=NAME is missing."
[ -n "$zone" ] || fail "--zone=ZONE is missing."
[ $# -gt 0 ] || fail "no command: it comes behind --"

where=(--worker=all "--zone=$zone")
[ -z "$project" ] || where+=("--project=$project")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run() {
  if [ -n "$dry_run" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@" < /dev/null
  fi
}

# Runs a line of shell on all workers; what it prints is labelled, and its exit codes are read there.
on_workers() {
  # $HOSTNAME of worker 3 ends in -w-3; expanded there
  # shellcheck disable=SC2016
  local line="{ ( $1 ); echo \"exit code \$?\"; } 2>&1 | sed -u "'"s/^/[${HOSTNAME##*-}] /"'
  local command=(gcloud compute tpus tpu-vm ssh "$tpu" "${where[@]}" "--command=$line")
  if [ -n "$dry_run" ]; then
    run "${command[@]}"
    return
  fi
  local codes
  set +e
  run "${command[@]}" 2>&1 | awk '
    /^\[[^]]*\] exit code [0-9]+$/ {
      if (!own && $NF > 0 && $NF < 42) own = $NF
      if ($NF + 0 > most) most = $NF + 0
      if ($NF == 0) next
    }
    { print; fflush() }
    END { exit own ? own : most }'
  codes=("${PIPESTATUS[@]}")
  set -e
  [ "${codes[1]}" -eq 0 ] || return "${codes[1]}"
  return "${codes[0]}"
}

if [ -n "$copy" ]; then
  folder="$(mktemp -d)"
  trap 'rm -rf "$folder"' EXIT
  archive="$folder/vidpref.tar.gz"
  if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard |
      while IFS= read -r -d '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
      done | tar --null -T - -czf "$archive"
  else
    tar --exclude=./.venv --exclude=./runs --exclude=__pycache__ -czf "$archive" .
  fi
  run gcloud compute tpus tpu-vm scp "$archive" "$tpu:vidpref.tar.gz" "${where[@]}"
  on_workers "set -e; mkdir -p vidpref; \
find vidpref -mindepth 1 -maxdepth 1 ! -name .venv ! -name runs -exec rm -rf {} +; \
tar -xzf vidpref.tar.gz -C vidpref; bash vidpref/launch/pods/install.sh"
fi
on_workers "bash vidpref/launch/pods/worker.sh $(printf '%q ' "$@")"
