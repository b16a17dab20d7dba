#!/bin/sh
# Installs the Node.js clients of tests/clients into .tools/node, as their package-lock.json says. No scripts of theirs are run.
set -eu
cd "$(dirname "$0")/.."

source=tests/clients/nodemailer
target=.tools/node
command -v npm >/dev/null || exit 0 # tools/programs.sh has said so
if cmp -s $source/package-lock.json $target/package-lock.json && [ -e $target/node_modules/.package-lock.json ]; then
    exit 0
fi
mkdir -p $target
cp $source/package.json $source/package-lock.json $target/
echo "installing Node.js packages into $target"
log=$(mktemp)
if ! npm ci --prefix $target --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    rm -rf $target/node_modules
    echo "missing: packages from npm (see $log); tests that need them will be skipped" >&2
    exit 0
fi
rm -f "$log"
