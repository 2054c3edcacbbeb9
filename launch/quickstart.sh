#!/usr/bin/env bash
# From a fresh clone to a report: installs vidpref into .venv and aligns the mini world's generator
# in two rounds. Arguments are passed on, e.g. `bash launch/quickstart.sh --config.rounds=1`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/venv.sh
ensure_venv
exec "$PYTHON" launch/tpu_run.py --config=dpo_aif:mini --workdir=runs/quickstart --config.rounds=2 "$@"
