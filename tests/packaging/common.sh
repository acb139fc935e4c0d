# shellcheck shell=bash
# What the scripts here share: a table of what was checked, a clean Debian, and an end that leaves nothing behind.
# Root is needed, and: apt-get install mmdebstrap systemd-container python3 curl

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d /var/tmp/klingd-packaging.XXXXXX)
klingd=${KLINGD:-$root/target/release/klingd}
table=$work/table
: >"$table"
: >"$work/started"
mounted=()

say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
die() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# One line of the table: what must hold, and the function that tries it, in a shell of its own that ends at the first thing
# that does not hold. A failure is told at once, and the rest is tried. With ONLY="one other", only those.
check() {
    local what=$1 from=$SECONDS code verdict=ok
    shift
    if [ -n "${ONLY:-}" ] && ! grep -qw -- "$1" <<<"$ONLY"; then return; fi
    set +e
    (
        set -eE
        trap 'echo "line $LINENO: $BASH_COMMAND: $?"' ERR
        "$@"
    ) >"$work/heard" 2>&1
    code=$?
    set -e
    [ "$code" -eq 0 ] || verdict=FAILED
    printf '%-6s %4ss  %s\n' "$verdict" "$((SECONDS - from))" "$what" | tee -a "$table"
    [ "$code" -eq 0 ] || tail -n 25 "$work/heard" | sed 's/^/           | /'
}

# Waits for a command to succeed: `within 30 command …`.
within() {
    local until=$((SECONDS + $1))
    shift
    # In a shell of its own: what gives up in there does not give up here.
    until ("$@") >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$until" ]; then
            # Once more, to be heard.
            "$@"
            return
        fi
        sleep 0.2
    done
}

# `!` that ends a shell with `set -e`.
not() { ! "$@"; }

# Whether what is piped has it, read to its end: `grep -q` ends at once, and then whoever still writes fails.
hears() { [ "$(grep -c -- "$1")" != 0 ]; }

# What is to end when this ends, also when it was started in a shell of its own.
ends_with_us() { echo "$1" >>"$work/started"; }

# Ends what was started here, and only that, then says what was found.
finish() {
    local code=$? pid place
    trap - EXIT
    while read -r pid; do kill -9 "$pid" 2>/dev/null || true; done <"$work/started"
    wait 2>/dev/null || true
    for place in "${mounted[@]}"; do umount "$place" 2>/dev/null || true; done
    printf '\n== what was checked\n'
    cat "$table"
    if grep -q '^FAILED' "$table"; then code=1; fi
    if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
    printf '%s, in %s s\n' "$([ "$code" -eq 0 ] && echo 'all of it held' || echo 'IT DID NOT HOLD')" "$SECONDS"
    exit "$code"
}
trap finish EXIT

# A Debian with systemd and whatever else is named, unpacked at $1; downloaded once a week.
debian() {
    local target=$1 packages=systemd,systemd-sysv,dbus,libpam-systemd,udev,procps,iproute2,ca-certificates${2:+,$2}
    local tar
    tar=$root/target/package/debian-$(cksum <<<"$packages" | cut -d' ' -f1).tar
    mkdir -p "${tar%/*}" "$target"
    if [ -z "$(find "$tar" -mtime -7 2>/dev/null)" ]; then
        say "mmdebstrap"
        mmdebstrap --quiet --format=tar --variant=minbase --include="$packages" bookworm "$tar.new" 2>"$work/mmdebstrap.log" ||
            die "mmdebstrap: $(tail -n 5 "$work/mmdebstrap.log")"
        mv "$tar.new" "$tar"
    fi
    tar -xf "$tar" -C "$target" --exclude='./dev/*'
    mkdir -p "$target/var/log/journal"
    rm -f "$target/usr/sbin/policy-rc.d"
}

# The provider's double, outside of the machine that is tried: what it charged no cut can undo.
sandbox() {
    port=$((20000 + RANDOM % 20000))
    "$klingd" sandbox --listen "127.0.0.1:$port" "$@" >"$work/sandbox.log" 2>&1 &
    ends_with_us $!
    within 20 curl -sf "http://127.0.0.1:$port/sandbox/ledger" -o /dev/null || die "$(cat "$work/sandbox.log")"
}

ledger() { curl -sf "http://127.0.0.1:$port/sandbox/ledger" >"$work/ledger.json"; }

# So many jobs, each with a prompt of its own, as a file.
batch() {
    local name=$1 count=$2 i
    printf '[defaults]\ntype = "std-text-to-video"\nduration = 5\nsound = false\n'
    for ((i = 1; i <= count; i++)); do
        printf '\n[[job]]\nname = "%s-%s"\nprompt = "%s %s"\n' "$name" "$i" "$name" "$i"
    done
}
