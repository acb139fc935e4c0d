#!/usr/bin/env bash
# Installs, upgrades, removes and purges the package in a clean Debian (no service manager runs in it), and looks at what is
# there after each step.
#   tests/packaging/install.sh OLD.deb NEW.deb       (as root; some 30 s)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

old=$1 new=$2
clean=$work/clean
debian "$clean"
mount -t proc proc "$clean/proc"
mounted+=("$clean/proc")
cp "$old" "$clean/old.deb"
cp "$new" "$clean/new.deb"

inside() { chroot "$clean" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
mode() { [ "$(inside stat -c '%a %U:%G' "$1")" = "$2" ] || die "$1 is $(inside stat -c '%a %U:%G' "$1"), not $2"; }
says() { grep -q -- "$1" "$work/said" || die "it does not say: $1; but: $(cat "$work/said")"; }
run() { inside "$@" >"$work/said" 2>&1 || die "$(cat "$work/said")"; }
wants() { inside test -L /etc/systemd/system/multi-user.target.wants/klingd.service; }

installed() {
    run dpkg --install /old.deb
    says 'not started before it has a key'
    mode /var/lib/klingd '2770 klingd:klingd'
    mode /var/lib/klingd/inbox '2770 klingd:klingd'
    mode /var/lib/klingd/videos '2750 klingd:klingd'
    mode /etc/klingd/klingd.toml '644 root:root'
    [ "$(inside getent passwd klingd | cut -d: -f6,7)" = /var/lib/klingd:/usr/sbin/nologin ]
    wants
}

used() {
    inside klingd --version
    # The data directory is the service's, and the only problem is that there is no key.
    inside klingd config show | hears 'data_dir.*/var/lib/klingd'
    run klingd enqueue --type std-text-to-video --no-sound --duration 5 --prompt 'a fox'
    mode /var/lib/klingd/klingd.db '660 root:klingd'
    install -m 600 <(echo secret) "$clean/etc/klingd/api-key"
    echo '# mine' >>"$clean/etc/klingd/klingd.toml"
    echo video >"$clean/var/lib/klingd/videos/fox.mp4"
}

upgraded() {
    inside systemctl disable klingd
    run dpkg --install /new.deb
    not grep -q 'not started before' "$work/said"
    # What a person decided stays decided.
    not wants
    inside systemctl enable klingd
    grep -q '^# mine' "$clean/etc/klingd/klingd.toml"
    mode /etc/klingd/api-key '600 root:root'
    [ "$(inside klingd --json list -a | wc -l)" -eq 1 ]
}

removed() {
    run dpkg --remove klingd
    not inside test -e /usr/bin/klingd
    inside test -e /etc/klingd/klingd.toml
    inside test -e /etc/klingd/api-key
    inside test -e /var/lib/klingd/klingd.db
}

again() {
    run dpkg --install /new.deb
    wants
    [ "$(inside klingd --json list -a | wc -l)" -eq 1 ]
    run dpkg --remove klingd
}

purged() {
    run dpkg --purge klingd
    says 'stay in /var/lib/klingd'
    not inside test -e /etc/klingd
    not wants
    not inside test -L /etc/systemd/system/klingd.service
    inside test -e /var/lib/klingd/klingd.db
    inside test -e /var/lib/klingd/videos/fox.mp4
    inside getent passwd klingd
}

unused() {
    inside rm -rf /var/lib/klingd
    run dpkg --install /old.deb
    run dpkg --purge klingd
    not inside test -e /var/lib/klingd
    not grep -q 'stay in' "$work/said"
}

say "in $clean"
check 'install: enabled, not started, says what to do; user, folders, modes' installed
check 'use: the queue is the service'\''s; the configuration is edited, a key put' used
check 'upgrade: disabled stays disabled; configuration, key and queue stay' upgraded
check 'remove: the binary goes; configuration, key and queue stay' removed
check 'install again: everything is still there' again
check 'purge: configuration and key go; queue and videos stay, and it says where' purged
check 'purge of an unused one leaves nothing' unused
