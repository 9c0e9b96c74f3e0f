#!/bin/sh
# Makes a virtual environment from a hash-pinned lock: scripts/bootstrap.sh PYTHON VENV LOCK
# Without LOCK it makes nothing and says by its exit code whether VENV has another Python than PYTHON.
#
# Debian's python3 comes without ensurepip (package python3-venv), and its pip refuses to install into the
# system. So pip puts one tool, uv, into a folder of its own, and uv makes the environment: no root, no apt.
set -eu
python=$1 venv=$2 lock=${3:-}
boot=.cache/bootstrap
version() { "$1" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null; }

where=$(command -v "$python" || true)
if [ -z "$where" ]; then
  echo "seawall: there is no $python on PATH. Name one that is there: make PYTHON=python3.12 ..." >&2
  exit 1
fi
# pyenv's shims refuse versions that are not chosen in this folder, though they are installed.
if ! version "$python" >/dev/null; then
  case $where in
    */shims/*) for found in "${where%/shims/*}"/versions/*/bin/"$(basename "$python")"; do
        if [ -x "$found" ]; then python=$found; fi
      done ;;
  esac
fi
if [ -z "$lock" ]; then
  [ -x "$venv/bin/python" ] && [ "$(version "$venv/bin/python")" != "$(version "$python")" ]
  exit
fi

"$python" - <<'PY'
import sys
if sys.version_info < (3, 11):
    sys.exit(f"seawall: Python 3.11 or newer is needed, this is {sys.version.split()[0]}. Try: make PYTHON=python3.12 ...")
PY
if ! "$boot/bin/uv" --version >/dev/null 2>&1; then
  echo "installing uv (it makes the environment) into $boot"
  mkdir -p "$boot"
  awk '/^uv==/{on=1; print; next} on && /^ /{print; next} {on=0}' "$lock" > "$boot.txt"
  "$python" -m pip install --quiet --disable-pip-version-check --upgrade --root-user-action=ignore --require-hashes --target "$boot" -r "$boot.txt" ||
    { echo "seawall: pip could not install uv. Does '$python -m pip --version' work, and is PyPI or your mirror reachable?" >&2; exit 1; }
fi
VIRTUAL_ENV=$PWD/$venv
export VIRTUAL_ENV
if [ -e "$venv/.anew" ]; then rm -rf "$venv"; fi
[ -x "$venv/bin/python" ] || "$boot/bin/uv" venv --quiet --python "$python" "$venv"
echo "installing $(grep -c '==' "$lock") pinned packages into $venv"
"$boot/bin/uv" pip sync --quiet --compile-bytecode --require-hashes "$lock"
"$boot/bin/uv" pip install --quiet --no-deps -e .
