#!/usr/bin/env bash
# Installs vidpref into .venv of this checkout on a TPU VM, in the versions of constraints.txt.
# Where the VM's Python is too old, or cannot make environments, Ubuntu's package is installed first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source launch/venv.sh

apt_install() {
  sudo apt-get update -qq
  sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
}

if ! python="$(find_python 2> /dev/null)"; then
  apt_install python3.11 python3.11-venv
elif ! "$python" -c 'import ensurepip' 2> /dev/null; then
  apt_install python3-venv
fi
export PIP_CONSTRAINT="$PWD/launch/pods/constraints.txt"
ensure_venv "[tpu]"
