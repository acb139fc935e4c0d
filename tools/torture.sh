#!/usr/bin/env bash
# Climbs the ladder of tests (tests/crash/ladder.rs) for so many minutes, and prints what was done as a table. Exits
# non-zero when a promise was broken, or when a fault that was armed never fired.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    echo "usage: tools/torture.sh [--seed N] [--minutes M]" >&2
    echo "  by itself the seed is taken from the clock, and it climbs for 10 minutes" >&2
    exit 2
}

seed="" minutes=10
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
        --seed) [[ $2 =~ ^[0-9]{1,19}$ ]] || usage; seed=$2 ;;
        --minutes) [[ $2 =~ ^[0-9]+(\.[0-9]+)?$ ]] || usage; minutes=$2 ;;
        *) usage ;;
    esac
    shift 2
done
[ -n "$seed" ] || seed=$(date +%s)
echo "seed $seed, $minutes minutes"
KLINGD_TORTURE_SEED=$seed KLINGD_TORTURE_MINUTES=$minutes \
    cargo test --locked --test crash -- --ignored --exact ladder::the_ladder --nocapture
