#!/usr/bin/env bash
# Builds what people install, into target/package/:
#   tools/package.sh deb       a Debian package (needs cargo-deb: cargo install cargo-deb --locked); what follows goes to
#                              cargo-deb: `--deb-revision 2`
#   tools/package.sh tarball   a static binary with its units and manual (needs the target x86_64-unknown-linux-musl and
#                              musl-gcc: rustup target add x86_64-unknown-linux-musl, apt-get install musl-tools)
# With BUILD=no the binary that is there is taken. Prints the path of what it made.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
out=$root/target/package
musl=x86_64-unknown-linux-musl

say() { printf '== %s\n' "$*" >&2; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

version() { sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1; }

# One date for everything inside, so that the same commit gives the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH

# What the binary $1 says about itself, and the texts, as /usr/share has them, in $2.
share() {
    local klingd=$1 share=$2
    rm -rf "$share"
    mkdir -p "$share/klingd" "$share/doc/klingd/examples"
    "$klingd" config schema job >"$share/klingd/job.schema.json"
    cp jobs.example.toml klingd.example.toml "$share/doc/klingd/examples/"
    cp README.md docs/provider.md "$share/doc/klingd/"
    cp -r contrib/prometheus "$share/doc/klingd/examples/"
    gzip -9n <CHANGELOG.md >"$share/doc/klingd/changelog.gz"
    mkdir -p "$share/man/man1"
    "$klingd" config man "$share/man/man1" >/dev/null
    gzip -9n "$share"/man/man1/*
    completion "$klingd" bash "$share/bash-completion/completions/klingd"
    completion "$klingd" zsh "$share/zsh/vendor-completions/_klingd"
    completion "$klingd" fish "$share/fish/vendor_completions.d/klingd.fish"
}

completion() {
    mkdir -p "$(dirname "$3")"
    "$1" config completions "$2" >"$3"
}

deb() {
    command -v cargo-deb >/dev/null || fail "cargo-deb is missing: cargo install cargo-deb --locked"
    build
    share target/release/klingd "$out/share"
    debian_changelog | gzip -9n >"$out/share/doc/klingd/changelog.Debian.gz"
    say "cargo deb"
    cargo deb --locked --no-build --no-strip --output "$out/" "$@" | tail -n 1
}

build() {
    [ "${BUILD:-yes}" = yes ] || return 0
    say "release build $*"
    cargo build --locked --release "$@" >&2
}

debian_changelog() {
    printf 'klingd (%s-1) unstable; urgency=medium\n\n  * What changed: /usr/share/doc/klingd/changelog.gz\n\n' "$(version)"
    printf ' -- %s  %s\n' "$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)" "$(date -Ru -d "@$SOURCE_DATE_EPOCH")"
}

# musl, so that one binary runs on every x86-64 Linux; TLS and SQLite are inside, the certificates are the system's.
tarball() {
    rustup target list --installed | grep -qx "$musl" || fail "the target is missing: rustup target add $musl"
    command -v musl-gcc >/dev/null || fail "musl-gcc is missing (SQLite and ring are C): apt-get install musl-tools"
    build --target "$musl"
    local klingd=target/$musl/release/klingd name
    file -b "$klingd" | grep -Eq 'static(-pie|ally) linked' || fail "$klingd is not static: $(file -b "$klingd")"
    name=klingd-$(version)-x86_64-linux
    rm -rf "${out:?}/$name"
    mkdir -p "$out/$name"
    share "$klingd" "$out/$name/share"
    install -m 755 "$klingd" "$out/$name/klingd"
    cp -r systemd "$out/$name/"
    cp packaging/debian/klingd.toml "$out/$name/systemd/"
    cp LICENSE-MIT LICENSE-APACHE packaging/INSTALL.md "$out/$name/"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$out" -c "$name" |
        gzip -9n >"$out/$name.tar.gz"
    rm -rf "${out:?}/$name"
    echo "$out/$name.tar.gz"
}

mkdir -p "$out"
case "${1:-}" in
deb) deb "${@:2}" ;;
tarball) tarball ;;
*) fail "usage: tools/package.sh deb|tarball" ;;
esac
