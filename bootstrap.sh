#!/bin/sh
# Makes .venv from nothing, or brings it up to date: requirements.lock with every hash checked, then this project,
# editable. Every `make` target calls it; with nothing to do it says nothing and costs milliseconds.
#
# PYTHON=/path/to/python chooses the interpreter of a new .venv. Where no Python fits, uv downloads one. What is up to
# date is decided by a stamp that holds the digest of the files below and this folder's path, never by modification
# times. The stamp is written last: an interrupted set-up has none, and starts over.
set -eu
cd -- "$(dirname -- "$0")"
here=$(pwd -P)
digest=$(cat requirements.lock pyproject.toml bootstrap.sh | sha256sum)
stamp=.venv/.complete
current() { [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "${digest%% *} $here" ]; }
fail() {
    printf 'error: %s\n  hint: %s\n' "$1" "$2" >&2
    failed=told
    exit 3
}

current && exit 0

# Two commands at once on a fresh clone: the second waits here, then finds the work done.
exec 9<bootstrap.sh
if command -v flock >/dev/null; then flock 9 || :; fi
current && exit 0

case "$(uname -sm)" in
"Linux x86_64" | "Linux aarch64") ;;
*)
    fail "requirements.lock is for Linux on x86_64 and aarch64, this is $(uname -sm)" \
        "use a Linux machine or container; to verify, show and compare runs here: pip install ."
    ;;
esac
[ -w . ] || [ -w .venv ] ||
    fail "$here cannot be written, and .venv belongs there" "copy the checkout, or link .venv to another folder"

download=3.13
install="install one (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3"
fits='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'
scratch=$(mktemp -d)
failed=
trap 'code=$?; rm -rf "$scratch"; [ $code -eq 0 ] || [ -n "$failed" ] ||
    echo "error: the set-up of .venv did not finish; the same command starts it over" >&2' EXIT
# A certificate authority that only this machine knows (a company proxy's) is in the system's store.
if [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ]; then
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
fi
unset PYTHONHOME PYTHONPATH
awk '/^[^ #]/ { mine = /^uv==/ } mine' requirements.lock >"$scratch/uv.txt"
pip_install() { PIP_USER=0 "$@" --quiet --disable-pip-version-check --no-deps --require-hashes -r "$scratch/uv.txt"; }
[ -t 2 ] && quiet= || quiet=--quiet # a progress bar for people, no list of packages for logs

# The first of the candidates after $1 with which the program $1 succeeds. Each is run: a version manager's shim may be
# on the PATH and still fail.
first_python() {
    program=$1
    shift
    for candidate in "$@"; do
        "$candidate" -I -c "$program" >/dev/null 2>&1 && printf '%s\n' "$candidate" && return
    done
    return 1
}

# A uv to start with: the PATH's, else the pinned one, which needs no fitting Python but any with pip or venv.
find_uv() {
    command -v uv && return
    for candidate in "$@" python3.10 python3.9 python3.8 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.*/bin/python3; do
        {
            if "$candidate" -m venv --clear "$scratch/venv"; then
                pip_install "$scratch/venv/bin/python" -m pip install
            else
                pip_install "$candidate" -m pip install --upgrade --target "$scratch/venv"
            fi
        } >/dev/null 2>&1 && printf '%s\n' "$scratch/venv/bin/uv" && return
    done
    return 1
}

# A Python that uv knows, else one that it downloads.
uv_python() {
    "$uv" python find --no-python-downloads --no-project '>=3.11,<3.15' 2>/dev/null && return
    echo "No Python 3.11 to 3.14 was found: uv is downloading Python $download, some 30 MB, for this user." >&2
    "$uv" python install $download >&2 && "$uv" python find --no-project $download
}

create_environment() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else
        set -- python3.11 python3.12 python3.13 python3.14 python3 python \
            "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[1234]*/bin/python3
    fi
    if python=$(first_python "import ensurepip, venv; $fits" "$@"); then
        echo "Setting up .venv with $("$python" -V) ($python): some gigabytes, once." >&2
        "$python" -m venv --clear .venv
        pip_install .venv/bin/python -m pip install
        return
    fi
    python=$(first_python "$fits" "$@") || python=
    [ -n "$python" ] || [ -z "${PYTHON:-}" ] || fail "$PYTHON is no working Python 3.11 to 3.14" "$install"
    uv=$(find_uv "$@") ||
        fail "no working Python 3.11 to 3.14 with its venv module, and no uv to make up for it" "$install"
    [ -n "$python" ] || python=$(uv_python) ||
        fail "uv could not download Python $download" "$install; UV_PYTHON_INSTALL_MIRROR names another source"
    echo "Setting up .venv with $("$python" -V) ($python): some gigabytes, once." >&2
    UV_VENV_CLEAR=1 "$uv" venv --quiet --no-project --python "$python" .venv
    rm -f .venv/lib/python3.*/site-packages/_virtualenv.* # uv's help for pip, started by every process
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r "$scratch/uv.txt"
}

case "$(cat $stamp 2>/dev/null)" in
*" $here") # complete for another lock: keep it, change only what differs
    rm -f $stamp
    pip_install .venv/bin/python -m pip install
    ;;
*) create_environment ;;
esac
.venv/bin/uv pip sync $quiet --python .venv/bin/python --require-hashes requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
# Python before 3.13 reads .pth files in the locale's encoding: an ASCII, relative path holds in every locale.
for link in .venv/lib/python3.*/site-packages/_ndrepro.pth; do
    rm "$link"
    echo ../../../.. >"$link"
done
echo "${digest%% *} $here" >$stamp
