#!/bin/sh
# Sees to the servers, and the browser, that tests and benchmarks start for themselves.  As root on Debian they are
# installed (and not started); elsewhere this says what is missing, and the tests that need it skip.
set -eu
missing=""
command -v redis-server >/dev/null || missing="redis-server"
command -v rabbitmq-server >/dev/null || missing="$missing rabbitmq-server"
command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 ||
    missing="$missing postgresql"
command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
    command -v google-chrome >/dev/null || missing="$missing chromium"
command -v curl >/dev/null || missing="$missing curl"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing $missing" >&2
    apt-get update -qq >/dev/null || true
    # RUNLEVEL=1: the package must not start a server of its own.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "not installed, tests that need it are skipped: $missing (apt-get install $missing)" >&2
    [ -z "${CI:-}" ]
fi
