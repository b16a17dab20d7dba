#!/bin/sh
# Installs Debian packages when root, else says in one line what to install, and fails.
#
#   tools/apt.sh "WHAT IS MISSING" PACKAGE...
#
# Nothing is removed for them (another mail server stays), no question is asked, and no service is started: while apt-get runs, a
# policy-rc.d forbids it, if there is none yet.
set -eu
missing=$1; shift

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: $missing. Install it first; on Debian: sudo apt-get install --no-install-recommends $*" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

log=$(mktemp)
echo "installing from Debian: $*"
export DEBIAN_FRONTEND=noninteractive
for package in "$@"; do
    if [ "$package" = postfix ]; then # for its test programs; it is not to be configured, let alone to run
        echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    fi
done
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends --no-remove "$@"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "missing: $missing. apt-get could not install $* (see $log)" >&2
    exit 1
fi
rm -f "$log"
