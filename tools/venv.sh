#!/bin/sh
# Makes .venv and installs into it: `tools/venv.sh run` what celeriac needs, `tools/venv.sh dev` all
# that its tests and checks need too.  Called by make; safe to call again; quiet unless it fails.
set -eu
cd "$(dirname "$0")/.."
what=${1:-dev}
extras="yaml zstd brotli pydantic redis rabbitmq postgres"

say() { printf '%s\n' "$*" >&2; }

good() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
        if command -v "$name" >/dev/null 2>&1 && good "$name"; then
            echo "$name"
            return
        fi
    done
    say "celeriac needs Python 3.11 or newer: on Debian, apt-get install python3 python3-venv"
    exit 1
}

# A machine without python3-venv: Debian keeps ensurepip in a package of its own.
need_ensurepip() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $package"
        apt-get update -qq >/dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
    else
        say "this Python has no ensurepip: install it with  sudo apt-get install $package"
        exit 1
    fi
}

if ! { [ -x .venv/bin/python ] && good .venv/bin/python && .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
    python=$(find_python)
    need_ensurepip "$python"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }

with_uv() {
    [ -x .venv/bin/uv ] || pip install "uv>=0.8" || return
    set -- --frozen --inexact --quiet --python .venv/bin/python
    if [ "$what" = run ]; then
        set -- "$@" --no-dev
    else
        for extra in $extras; do set -- "$@" --extra "$extra"; done
    fi
    env -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never .venv/bin/uv sync "$@"
}

# Without the lock's versions, where its files cannot be had: behind a mirror, say.
with_pip() {
    if [ "$what" = run ]; then
        pip install -e .
    else
        pip install "pip>=25.1"
        pip install -e ".[$(echo "$extras" | tr ' ' ,)]" --group dev
    fi
}

say "installing celeriac ($what) into .venv"
with_uv || { say "uv could not do it; trying plain pip"; with_pip; }
