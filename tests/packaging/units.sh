#!/usr/bin/env bash
# The units, as systemd reads them: no complaint at all (`verify` ends with 0 on a key that it does not know), and little
# that the service could do to its machine. Needs systemd-analyze 250 or later; no root, nothing is started.
#   tests/packaging/units.sh
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Of 10; systemd calls anything below 5 safe. What is left is the network, which is the service's business.
readonly MAX_EXPOSURE=1.5

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The command must exist to pass; here it is not installed.
for unit in klingd.service klingd.user.service; do
    sed 's|^ExecStart=klingd |ExecStart=/bin/true |' "$root/systemd/$unit" >"$scratch/$unit"
done

verify() {
    local unit=$1 said
    shift
    said=$(systemd-analyze "$@" --man=no verify "$scratch/$unit" 2>&1) || fail "$unit: $said"
    [ -z "$said" ] || fail "$unit: $said"
    echo "ok: $unit is understood to the last line"
}
verify klingd.service --system
# A user's manager wants a place to keep things, even to read one unit.
XDG_RUNTIME_DIR=$scratch verify klingd.user.service --user

exposure=$(systemd-analyze security --offline=true --no-pager "$scratch/klingd.service" |
    sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
[ -n "$exposure" ] || fail "systemd-analyze does not tell the exposure"
awk -v is="$exposure" -v max="$MAX_EXPOSURE" 'BEGIN { exit !(is <= max) }' ||
    fail "klingd.service is exposed by $exposure, over $MAX_EXPOSURE: systemd-analyze security --offline=true says by what"
echo "ok: klingd.service is exposed by $exposure of 10, at most $MAX_EXPOSURE"
