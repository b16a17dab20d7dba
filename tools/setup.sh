#!/bin/sh
# Makes .venv for one purpose and leaves the stamp .venv/.for-PURPOSE, so that make need not come back.
#
#   tools/setup.sh run|dev|fuzz [PYTHON]
#
# run: the server and its embedded store. dev: tests, linters and types too. fuzz: the fuzzer too.
set -eu
cd "$(dirname "$0")/.."

case "${1:-}" in
    run)  extras=embedded      purposes="run" ;;
    dev)  extras=embedded,dev  purposes="run dev" ;;
    fuzz) extras=embedded,fuzz purposes="run fuzz" ;;
    *) echo "usage: tools/setup.sh run|dev|fuzz [PYTHON]" >&2; exit 64 ;;
esac

# Python 3.11 or later, able to make a virtual environment. (ensurepip is what Debian keeps in python3-venv.)
fits() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for python in "${2:-python3}" /usr/bin/python3; do
        if fits "$python"; then echo "$python"; return; fi
    done
    return 1
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! python=$(find_python "$@"); then
        tools/apt.sh "python3 (3.11 or later) with venv" python3 python3-venv || exit 69
        python=$(find_python "$@") || { echo "mta-front needs Python 3.11 or later" >&2; exit 69; }
    fi
    echo "making .venv with $python ($("$python" --version))"
    "$python" -m venv --clear .venv
fi

echo "installing Python packages into .venv (once)"
# The second and third setting pin what builds the package, too: the third is how newer versions of pip call the second.
PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
    .venv/bin/python -m pip install -qq -c constraints.txt -e ".[$extras]"

for purpose in $purposes; do touch ".venv/.for-$purpose"; done
