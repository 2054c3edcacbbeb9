#!/usr/bin/env bash
# Installs into .venv, lints, tests. Arguments go to pytest, e.g. `bash tests/run.sh -m slow`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/venv.sh
ensure_venv "[test,plan]"
export JAX_PLATFORMS=cpu
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
# Most of the time is compiling, on one core: two processes, each with whole files. In the order of
# the folders, as the longest files have the fewest tests, and would come last otherwise.
exec "$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
