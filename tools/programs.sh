#!/bin/sh
# The real programs that tests and benchmarks talk to. What is missing is installed when root; else one line says what to do, and
# the tests that need it are skipped (in CI they fail).
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

programs="
redis-server:redis-server
smtp-source:postfix
smtp-sink:postfix
swaks:swaks
msmtp:msmtp
gsasl:gsasl
openssl:openssl
dovecot:dovecot-core
node:nodejs
npm:npm
haproxy:haproxy
prometheus:prometheus
promtool:prometheus
strace:strace
cc:gcc
"

missing="" packages=""
for pair in $programs; do
    if ! command -v "${pair%%:*}" >/dev/null; then
        missing="$missing ${pair%%:*}"
        case " $packages " in *" ${pair##*:} "*) ;; *) packages="$packages ${pair##*:}" ;; esac
    fi
done
if [ ! -e /usr/include/stdio.h ]; then
    missing="$missing stdio.h" packages="$packages libc6-dev"
fi
if ! ls /usr/lib/*/sasl2/libscram.so >/dev/null 2>&1; then # how Postfix's client logs in
    missing="$missing Cyrus-SASL" packages="$packages libsasl2-modules"
fi

if [ -n "$packages" ]; then
    # shellcheck disable=SC2086 (a list of words)
    tools/apt.sh "${missing# }" $packages || echo "tests that need them will be skipped" >&2
fi

# Clients that are not installed in the system, but in .tools
tools/exim.sh
tools/node.sh
