#!/usr/bin/env bash
# Runs a command on one host of a slice of TPU VMs, in the checkout and its .venv:
#
#     bash launch/pods/worker.sh python launch/tpu_run.py --config=... --workdir=...
#
# A host without its TPU fails; a crash, and kill -ABRT, print the stacks of all threads.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu,cpu}" PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
# shellcheck source=/dev/null
source .venv/bin/activate
exec "$@"
