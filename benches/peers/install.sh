#!/usr/bin/env bash
# Installs the queues that klingd is measured beside, by their own package managers, into target/peers: huey (pip), plainjob
# (npm), pueue, effectum and apalis-sqlite (cargo). Only `just bench` needs them; what can't be had is skipped there.
# Needs cargo, and for the others python3 with venv, node with npm, make and a C++ compiler.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
to=$here/../../target/peers
mkdir -p "$to/npm"
to=$(cd "$to" && pwd)
readonly PUEUE=4.0.4

try() {
    local name=$1 log=$to/$1.log
    shift
    if "$@" >"$log" 2>&1; then
        echo "$name: installed"
    else
        echo "$name: not installed, see $log"
    fi
}

huey() {
    python3 -m venv "$to/venv" && "$to/venv/bin/pip" install --quiet -r "$here/requirements.txt"
}

plainjob() {
    cp "$here/package.json" "$to/npm/" &&
        cd "$to/npm" && npm install --no-audit --no-fund --no-package-lock --ignore-scripts || return
    # SQLite for node is built here, with the headers that node came with where they are installed beside it.
    local headers
    headers=$(dirname "$(dirname "$(command -v node)")")
    [ -d "$headers/include/node" ] && export npm_config_nodedir=$headers
    cd node_modules/better-sqlite3 && { [ -f build/Release/better_sqlite3.node ] || npm run build-release; }
}

pueue() {
    cargo install --locked --version "=$PUEUE" --root "$to/cargo" pueue
}

# $1: the folder here that is a crate.
crate() {
    cargo build --release --locked --manifest-path "$here/$1/Cargo.toml" --target-dir "$to/rust-$1"
}

try huey huey
try plainjob plainjob
try effectum crate effectum
try apalis crate apalis
try pueue pueue
