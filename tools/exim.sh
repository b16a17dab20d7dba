#!/bin/sh
# Unpacks Debian's Exim, and the libraries that it needs and the system lacks, into .tools/exim. It is not installed: Debian allows
# one mail server, and that is Postfix. Needs no root, only apt-get and its lists.
set -eu
cd "$(dirname "$0")/.."

target=.tools/exim
[ ! -e $target/exim4 ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# What would be installed if it could be: Exim, nss_wrapper, and every library that is not there yet.
wanted() {
    apt-get -s install --no-install-recommends exim4-daemon-light libnss-wrapper 2>"$work/log" | awk '$1 == "Inst" {print $2}'
}

unpack() {
    packages=$(wanted)
    if [ -z "$packages" ] && [ "$(id -u)" = 0 ]; then # a new machine has no lists
        apt-get update -qq >"$work/log" 2>&1 || return 1
        packages=$(wanted)
    fi
    # shellcheck disable=SC2086 (a list of words)
    [ -n "$packages" ] && (cd "$work" && apt-get download -qq $packages >log 2>&1) || return 1
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$work/unpacked" || return 1
    done
    mkdir "$work/exim"
    find "$work/unpacked" -name '*.so*' -exec cp -P {} "$work/exim" \;
    cp "$work/unpacked/usr/sbin/exim4" "$work/exim"
    chmod 755 "$work/exim/exim4" # it came setuid root
    mkdir -p $target
    cp -RP "$work/exim/." $target
}

echo "unpacking Exim from Debian into $target"
if ! unpack; then
    [ ! -e "$work/log" ] || tail -n 5 "$work/log" >&2
    echo "missing: Debian's exim4-daemon-light; tests with Exim will be skipped" >&2
fi
