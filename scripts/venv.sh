#!/usr/bin/env bash
# Makes .venv with Interlock (editable, all extras) in it; the second time it finds that nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."

inputs=(constraints.txt hatch_build.py pyproject.toml scripts/stubs.py scripts/venv.sh)
stamp=.venv/.interlock-stamp

say() { printf '  %s\n' "$*" >&2; }

find_python() {
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    say "set-up: Python 3.11 or later is needed, and none is on PATH"
    exit 1
}

ensure_venv_module() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "Python: installing Debian's python3-venv"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q >/dev/null || say "Python: apt-get update complains; trying all the same"
        apt-get install -y -q --no-install-recommends python3-venv >/dev/null
    else
        say "set-up: $1 has no venv module; install it (on Debian: apt-get install python3-venv)"
        exit 1
    fi
}

python=$(find_python)
state=$(cat "${inputs[@]}" | sha256sum; "$python" --version; pwd)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then
    say "Python packages: as they should be, in .venv"
    exit
fi

ensure_venv_module "$python"
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip install -q --disable-pip-version-check --constraint constraints.txt)
say "Python packages: installing into .venv (about a minute the first time)"
# The build's own tools first, at the versions that are pinned here, so that no second copy is fetched.
"${pip[@]}" hatchling grpcio-tools mypy-protobuf
"${pip[@]}" --no-build-isolation --editable '.[dev]'
printf '%s\n' "$state" >"$stamp"
say "Python packages: installed"
