#!/usr/bin/env bash
# Installs into .venv, lints, tests. Arguments go to pytest, e.g. `bash tests/run.sh -m slow`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/venv.sh
ensure_venv "[test,plan]"
export JAX_PLATFORMS=cpu
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
# Most of the time is compiling, on one core: two processes, each with whole files.
exec "$PYTHON" -m pytest -n 2 --dist loadfile "$@"
