#!/bin/sh
# Makes .venv from nothing, or brings it up to date: requirements.lock with every hash checked, then this project,
# editable. Every `make` target calls it; with nothing to do it says nothing and costs milliseconds.
#
# PYTHON=/path/to/python chooses the interpreter of a new .venv. What is up to date is told by a stamp that holds the
# digest of the files below and this folder's path, never by modification times. The stamp is written last: a set-up
# that was cut short has none, and starts over.
set -eu
cd -- "$(dirname -- "$0")"
here=$(pwd -P)
digest=$(cat requirements.lock pyproject.toml bootstrap.sh | sha256sum)
stamp=.venv/.complete
current() { [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "${digest%% *} $here" ]; }
fail() { printf 'error: %s\n  cure: %s\n' "$1" "$2" >&2; exit 3; }

current && exit 0

# Two commands at once on a fresh clone: the second waits here, then finds the work done.
exec 9<bootstrap.sh
if command -v flock >/dev/null; then flock 9 || :; fi
current && exit 0

[ "$(uname -sm)" = "Linux x86_64" ] ||
    fail "requirements.lock is for Linux x86_64, this is $(uname -sm)" "use a Linux x86_64 machine or container"

# Runs each candidate: a version manager's shim may be on the PATH and still fail.
find_python() {
    for candidate in "$@"; do
        "$candidate" -I -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            >/dev/null 2>&1 && printf '%s\n' "$candidate" && return
    done
    fail "no working Python 3.11, 3.12 or 3.13 with its venv module among: $*" \
        "install one (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3"
}

case "$(cat $stamp 2>/dev/null)" in
*" $here") rm -f $stamp ;; # complete for another lock: keep it, change only what differs
*)
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else
        set -- python3.11 python3.12 python3.13 python3 python \
            "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[123]*/bin/python3
    fi
    python=$(find_python "$@")
    echo "Setting up .venv with $("$python" -V) ($python): some gigabytes, once." >&2
    "$python" -m venv --clear .venv
    ;;
esac

trap '[ $? -eq 0 ] || echo "error: the set-up of .venv did not finish; the same command starts it over" >&2' EXIT
# A certificate authority that only this machine knows (a company proxy's) is in the system's store.
if [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ]; then
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
fi
unset PYTHONHOME PYTHONPATH
awk '/^[^ #]/ { mine = /^uv==/ } mine' requirements.lock >.venv/uv.txt
PIP_USER=0 .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt
[ -t 2 ] && quiet= || quiet=--quiet # a progress bar for people, no list of packages for logs
.venv/bin/uv pip sync $quiet --python .venv/bin/python --require-hashes requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# Python before 3.13 reads .pth files in the locale's encoding: an ASCII, relative path holds in every locale.
for link in .venv/lib/python3.*/site-packages/_ndrepro.pth; do
    rm "$link"
    echo ../../../.. >"$link"
done
echo "${digest%% *} $here" >$stamp
