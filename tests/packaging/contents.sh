#!/usr/bin/env bash
# What is in the package, and with which modes; what its scripts are called with. Installs nothing.
#   tests/packaging/contents.sh target/package/klingd_*.deb
set -euo pipefail

deb=$1
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

listing=$(dpkg-deb --contents "$deb")
has() {
    grep -Eq "^$1 (root/root|0/0) .* \./$2$" <<<"$listing" || fail "$deb has no $2 with mode $1"
}
plain=-rw-r--r--
has -rwxr-xr-x usr/bin/klingd
has "$plain" lib/systemd/system/klingd.service
has "$plain" usr/lib/systemd/user/klingd.service
has "$plain" usr/lib/sysusers.d/klingd.conf
has "$plain" usr/lib/tmpfiles.d/klingd.conf
has "$plain" etc/klingd/klingd.toml
has "$plain" usr/share/klingd/job.schema.json
for file in copyright changelog.gz changelog.Debian.gz README.md examples/jobs.example.toml examples/klingd.example.toml \
    examples/prometheus/klingd.rules.yml; do
    has "$plain" "usr/share/doc/klingd/$file"
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
dpkg-deb --raw-extract "$deb" "$scratch"
klingd=$scratch/usr/bin/klingd
[ "$(cat "$scratch/DEBIAN/conffiles")" = /etc/klingd/klingd.toml ] || fail "the configuration is no conffile"
for script in postinst prerm postrm; do
    sh -n "$scratch/DEBIAN/$script" || fail "$script"
done
for package in libc6 ca-certificates systemd; do
    grep -q "^Depends:.*\b$package\b" "$scratch/DEBIAN/control" || fail "it does not depend on $package"
done
"$klingd" config schema job | cmp - "$scratch/usr/share/klingd/job.schema.json" || fail "the schema is another version's"
for page in klingd klingd-run klingd-resolve; do
    has "$plain" "usr/share/man/man1/$page.1.gz"
done
has "$plain" usr/share/bash-completion/completions/klingd
has "$plain" usr/share/zsh/vendor-completions/_klingd
has "$plain" usr/share/fish/vendor_completions.d/klingd.fish
# It says that the key is missing, not that the file is wrong.
said=$(env -i PATH="$PATH" HOME="$scratch" "$klingd" --config "$scratch/etc/klingd/klingd.toml" config check 2>&1 || true)
! grep -qi 'unknown' <<<"$said" || fail "the shipped configuration: $said"
echo "ok: $(basename "$deb"): $(wc -l <<<"$listing") entries, the binary has $(stat -c %s "$klingd") bytes"
