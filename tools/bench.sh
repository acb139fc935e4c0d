#!/usr/bin/env bash
# All benchmarks in order, each beside its peers; what they print goes to target/bench/DATE-COMMIT.txt as well. Takes about
# an hour on two cores, and says nothing on a machine that does other work meanwhile. QUICK=yes takes minutes and shows only
# that everything runs.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

main() {
    local commit out
    commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
    mkdir -p target/bench
    out=target/bench/$(date -u +%Y%m%dT%H%M%SZ)-$commit.txt
    run 2>&1 | tee "$out"
    echo "kept in $out"
}

run() {
    echo "klingd at $(git rev-parse HEAD 2>/dev/null || echo 'an unknown commit'), $(date -u), $(rustc --version)"
    grep -m1 'model name' /proc/cpuinfo || true
    benches/peers/install.sh
    cargo bench --locked --no-run
    if [ "${QUICK:-no}" = yes ]; then
        bench process --rounds 5 --idle 5
        bench kernels --quick
        bench enqueue --jobs 2000 --rounds 1 --single 5 --each 100
        bench latency --samples 10 --quiet 2 --quiet-samples 1
        bench backlog --jobs 10000 --rounds 1 --claims 10
        bench drain --jobs 200 --rounds 1
        bench download --rounds 1 --large 33554432 --files 50
        bench gate --seeds 1 --no-http
    else
        bench process
        bench kernels
        bench enqueue
        bench latency --samples 200 --quiet 30 --quiet-samples 5
        bench backlog --jobs 1000000
        bench drain
        bench download
        bench gate
    fi
    bench poll
}

bench() {
    printf '\n== %s\n' "$*"
    local name=$1
    shift
    cargo bench --quiet --locked --bench "$name" -- "$@"
}

main
