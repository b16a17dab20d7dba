#!/bin/sh
# Writes constraints.txt anew: the newest versions that fit pyproject.toml, from a virtual environment of their own.
#
#   tools/pin.sh [PYTHON]
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${1:-python3}" -m venv "$scratch/venv"
# hatchling and editables build the package; they are pinned too.
PIP_DISABLE_PIP_VERSION_CHECK=1 "$scratch/venv/bin/pip" install -q -e ".[embedded,dev,fuzz]" hatchling editables
{
    sed -n '/^#/p' constraints.txt
    "$scratch/venv/bin/pip" freeze --all | grep -E '^[A-Za-z0-9._-]+==' | grep -vE '^(pip|setuptools)==' | LC_ALL=C sort -f
} >"$scratch/constraints.txt"
cp "$scratch/constraints.txt" constraints.txt
