#!/usr/bin/env bash
# Install what requirements.lock lists into .venv:  scripts/setup.sh [extras]     (`make setup`, `make extras`)
# PYTHON=python3.12 chooses the Python; otherwise it is the one of .venv, or the first of PYTHONS that works.
# .venv/ready is written last and says what .venv was made for, so that an incomplete or moved one is noticed.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONS=(python3.11 python3.12 python3.13 python3.14 python3)
READY=.venv/ready
EXTRAS=.venv/extras

fail() {
    echo "setup: $*" >&2
    exit 1
}

# Print the executable behind a command, for a Python from 3.11 to 3.14 that can make environments; nothing for others.
# It is run, because a shim of pyenv is there for versions that are not; a virtual environment's leads to its base.
base_of() {
    "$1" -c 'import ensurepip, sys, venv
if (3, 11) <= sys.version_info < (3, 15):
    print(sys._base_executable)' 2>/dev/null || true
}

choose_python() {
    local candidate found candidates=("${PYTHONS[@]}")
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        found=$(base_of "$candidate")
        if [[ -n $found ]]; then
            echo "$found"
            return
        fi
    done
    if [[ -n ${PYTHON:-} ]]; then
        fail "PYTHON=$PYTHON is no working Python from 3.11 to 3.14 with venv and ensurepip (Debian: python3-venv)"
    fi
    fail "none of ${PYTHONS[*]} is a working Python from 3.11 to 3.14 with venv and ensurepip" \
        "(Debian: python3-venv); install one, or name it: make setup PYTHON=/path/to/python3.12"
}

# Print version and place of a Python: equal for a virtual environment and for what it was made from.
identity() {
    "$1" -c 'import sys; print(sys.version.split()[0], sys.base_prefix)'
}

# Print why .venv has to be made again; nothing where it can stay.
reason_to_rebuild() {
    if [[ ! -e .venv ]]; then
        echo "there is none"
    elif [[ ! -f $READY ]]; then
        echo "an earlier set-up was stopped before its end"
    elif [[ -s $READY && $(head -n 1 "$READY") != "$PWD" ]]; then
        echo "it was made in $(head -n 1 "$READY"), and environments cannot be moved"
    elif [[ -z $(base_of .venv/bin/python) ]]; then
        echo "its Python no longer works"
    elif [[ -n ${PYTHON:-} && $(identity .venv/bin/python) != $(identity "$python") ]]; then
        echo "its Python is $(identity .venv/bin/python), not $(identity "$python")"
    fi
}

# Print what a complete .venv was made for: this folder, and these files.
stamp() {
    echo "$PWD"
    cksum requirements.lock pyproject.toml scripts/setup.sh
}

check_git() {
    command -v git >/dev/null || fail "git is missing, and DVC needs it"
    git rev-parse --git-dir >/dev/null 2>&1 && return
    if [[ -e .git ]]; then
        fail "$(git rev-parse --git-dir 2>&1)"
    fi
    fail "this folder is no git repository (a downloaded zip?), and DVC needs one; clone the project instead," \
        'or type: git init && git add --all && git commit --message "As downloaded"'
}

# Where pip itself gives up (no network), what it has installed is complete, and the next set-up continues with it.
install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" && return
    echo "$PWD" >"$READY"
    fail "pip failed; the lines above say why"
}

cd "$(pwd -P)"
trap 'exit 130' INT TERM
check_git
python=''
if [[ -n ${PYTHON:-} ]]; then
    python=$(choose_python)
fi
reason=$(reason_to_rebuild)
if [[ -n $reason ]]; then
    python=${python:-$(choose_python)}
    echo "Making .venv with $python: $reason. It takes some minutes and 6.5 GB."
    rm -rf .venv
    "$python" -m venv .venv
fi
if [[ ! -f $READY || $(cat "$READY") != $(stamp) ]]; then
    rm -f "$READY"
    install --require-hashes --no-deps -r requirements.lock
    # After the lock: this project's command `torchserve` takes the place of the package's.
    install --no-deps --no-build-isolation --editable .
    stamp >"$READY"
fi
if [[ ${1:-} = extras && (! -f $EXTRAS || $(cat "$EXTRAS") != $(cksum requirements-extras.lock)) ]]; then
    install --require-hashes --no-deps -r requirements-extras.lock
    cksum requirements-extras.lock >"$EXTRAS"
fi
