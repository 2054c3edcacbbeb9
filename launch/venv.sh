# shellcheck shell=bash
# Sourced by launch/quickstart.sh, launch/pods/install.sh and tests/run.sh: `ensure_venv "[test]"` makes or reuses .venv
# in the checkout with vidpref and the named extras, and leaves its python in $PYTHON.

find_python() {
  local name
  for name in python3.11 python3.12 python3 python; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
        > /dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo "vidpref needs Python 3.11 or 3.12 (with the venv module) on PATH; none was found." >&2
  return 1
}

ensure_venv() {
  local extras="${1:-}" python stamp
  stamp=".venv/installed${extras//[\[\],]/-}.sha256"
  if [ -x .venv/bin/python ] && [ -f "$stamp" ] && sha256sum --status -c "$stamp"; then
    PYTHON="$PWD/.venv/bin/python"
    return
  fi
  if ! [ -x .venv/bin/python ]; then
    python="$(find_python)" || return 1
    echo "install: making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  PYTHON="$PWD/.venv/bin/python"
  echo "install: vidpref$extras into .venv (about 1 to 3 minutes)"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable ".$extras"
  sha256sum setup.py > "$stamp"
}
