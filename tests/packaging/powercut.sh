#!/usr/bin/env bash
# Power cuts of a whole machine: qemu with a disk of its own, killed in mid-work and booted again, until the queue is done.
# The provider's double runs outside. Files that nobody synced are written beside the work: they must be lost, else the cut
# was none.
#   tests/packaging/powercut.sh KLINGD.deb [CUTS]      (as root; a minute a cut without KVM)
# Needs besides: apt-get install qemu-system-x86
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

deb=$1 cuts=${2:-4}
# Enough that some are left to be paid for after the last cut: while the plug is about to be pulled, a dozen are.
readonly jobs=$((cuts * 15))
# Of one boot and its work; without KVM and on a busy machine it takes a while.
readonly boot_limit_s=420
tree=$work/tree
disk=$work/disk.img

prepare() {
    debian "$tree" linux-image-cloud-amd64,initramfs-tools,python3
    mount -t proc proc "$tree/proc"
    mounted+=("$tree/proc")
    cp "$deb" "$tree/klingd.deb"
    cp "$here/promise.py" "$tree/root/"
    local inside=(chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin)
    "${inside[@]}" dpkg --install /klingd.deb >"$work/dpkg.log" 2>&1 || die "$(cat "$work/dpkg.log")"
    (umask 077 && echo sandbox-key >"$tree/etc/klingd/api-key")
    printf '[api]\nbase_url = "http://127.0.0.1:%s"\n[poll]\nfirst = "1s"\nevery = "2s"\n' "$port" >>"$tree/etc/klingd/klingd.toml"
    batch cut "$jobs" >"$tree/var/lib/klingd/inbox/cut.toml"
    chroot "$tree" chown klingd:klingd /var/lib/klingd/inbox/cut.toml
    rm -f "$tree/etc/machine-id" && : >"$tree/etc/machine-id"
    echo '/dev/vda / ext4 defaults 0 1' >"$tree/etc/fstab"
    network
    units
    cp "$tree"/boot/vmlinuz-* "$work/vmlinuz"
    cp "$tree"/boot/initrd.img-* "$work/initrd"
    rm -rf "$tree/var/cache/apt" "$tree/klingd.deb"
    umount "$tree/proc"
    truncate -s 2G "$disk"
    mkfs.ext4 -q -d "$tree" "$disk"
    rm -rf "$tree"
}

# A plain address is allowed on loopback only, so the double outside appears on the machine's own.
network() {
    printf '[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$tree/etc/systemd/network/rig.network"
    printf '[Socket]\nListenStream=127.0.0.1:%s\n[Install]\nWantedBy=sockets.target\n' "$port" >"$tree/etc/systemd/system/double.socket"
    printf '[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd 10.0.2.2:%s\n' "$port" >"$tree/etc/systemd/system/double.service"
    chroot "$tree" systemctl -q enable systemd-networkd double.socket
}

units() {
    cat >"$tree/root/unsynced" <<'SH'
#!/bin/sh
# Nobody syncs these: they are lost in a cut, or the cut was none.
mkdir -p /root/unsynced.d
boot=$(sed 's/.*rig.boot=\([0-9]*\).*/\1/' /proc/cmdline)
i=0
while :; do
    i=$((i + 1))
    echo "content $i" >"/root/unsynced.d/$boot-$i"
    echo "unsynced $boot-$i" >/dev/ttyS0
    sleep 1
done
SH
    cat >"$tree/root/settle" <<SH
#!/bin/sh
# What a person does after the last cut, then the machine is turned off.
ask() { klingd --json list -a >/root/jobs.json; python3 -c "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:$port/sandbox/ledger').read().decode())" >/root/ledger.json; }
sleep 10
ask
python3 /root/promise.py doubts /root/ledger.json /root/jobs.json | while read -r id rest; do
    echo "settle: \$id \$rest" >/dev/ttyS0
    klingd resolve "\$id" \$rest --yes </dev/null >/dev/ttyS0 2>&1
done
klingd wait --all --timeout 5m >/dev/ttyS0 2>&1
echo "settle: wait ended with \$?" >/dev/ttyS0
ask
journalctl -b --no-pager -u klingd -o cat | tail -n 5 >/dev/ttyS0
systemctl poweroff
SH
    chmod +x "$tree/root/unsynced" "$tree/root/settle"
    printf '[Service]\nExecStart=/root/unsynced\n[Install]\nWantedBy=multi-user.target\n' >"$tree/etc/systemd/system/unsynced.service"
    printf '[Unit]\nAfter=klingd.service\nConditionKernelCommandLine=rig.settle\n[Service]\nExecStart=/root/settle\n[Install]\nWantedBy=multi-user.target\n' >"$tree/etc/systemd/system/settle.service"
    chroot "$tree" systemctl -q enable unsynced.service settle.service
}

boot() {
    qemu-system-x86_64 -accel tcg -smp 1 -m 1024 -nodefaults -display none -no-reboot \
        -serial "file:$work/console-$1" -drive "file=$disk,if=virtio,format=raw" \
        -netdev user,id=n -device virtio-net-pci,netdev=n,romfile= \
        -kernel "$work/vmlinuz" -initrd "$work/initrd" \
        -append "root=/dev/vda rw console=ttyS0 quiet rig.boot=$1 ${2:-}" </dev/null >"$work/qemu-$1.log" 2>&1 &
    echo $! >"$work/qemu"
    ends_with_us $!
}
running() { kill -0 "$(cat "$work/qemu")" 2>/dev/null; }
charges() { ledger && python3 -c "import json; print(len(json.load(open('$work/ledger.json'))['charges']))"; }

# Boots, waits until so many renders were paid in this life of the machine, and pulls the plug: at once, while the answers
# are on the wire, or some seconds later, while tasks are looked at and videos fetched.
power_cut() {
    local boot=$1 more=$2 from
    from=$(charges)
    boot "$boot"
    # Whatever comes of it, the next boot wants the disk for itself.
    trap 'kill -9 "$(cat "$work/qemu")" 2>/dev/null || true' EXIT
    within "$boot_limit_s" has_paid $((from + more))
    sleep $((boot * 7 % 10))
    kill -9 "$(cat "$work/qemu")"
    within 10 not running
    echo "cut $boot: $from charges before, $(charges) after"
}
has_paid() {
    running || die "qemu ended: $(cat "$work"/qemu-*.log)"
    local is
    is=$(charges)
    [ "$is" -ge "$1" ] || die "$is charges of $1: $(tail -n 5 "$work/console-$boot")"
}

settled() {
    boot last rig.settle
    within "$boot_limit_s" not running
    ledger
    mkdir "$work/mnt"
    mount -o loop,ro "$disk" "$work/mnt"
    grep -a 'settle:' "$work/console-last" || true
    local mnt=$work/mnt
    "$here/promise.py" verdict "$work/ledger.json" "$mnt/root/jobs.json" "$jobs" "$mnt"
}

lost_what_nobody_synced() {
    local boot last
    for ((boot = 1; boot <= cuts; boot++)); do
        last=$(grep -aEo "unsynced $boot-[0-9]+" "$work/console-$boot" | tail -n 1 | cut -d' ' -f2)
        [ -n "$last" ] || die "boot $boot wrote nothing"
        not test -s "$work/mnt/root/unsynced.d/$last"
    done
}
no_leftovers() {
    not grep -rqa sandbox-key "$work/mnt/var/lib/klingd" "$work/mnt/var/log"
    [ -z "$(find "$work/mnt/var/lib/klingd" -name '*.part')" ]
    python3 - "$work/mnt/var/lib/klingd/klingd.db" "$work/klingd.db" <<'PY'
import shutil, sqlite3, sys
shutil.copy(sys.argv[1], sys.argv[2])
db = sqlite3.connect(sys.argv[2])
assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
assert db.execute("PRAGMA foreign_key_check").fetchall() == []
PY
}

sandbox --render 3 --video-bytes 2000000 --faults 'generate:slow=2500@*'
say "a disk with the package"
prepare
mounted+=("$work/mnt")
say "$cuts cuts"
for ((boot = 1; boot <= cuts; boot++)); do
    check "power cut $boot, $((boot % 3 + 1)) charges or more after the boot" power_cut "$boot" $((boot % 3 + 1))
    grep '^cut ' "$work/heard" || true
done
check 'booted again, doubt settled by the ledger: each job done, charged once, its video whole' settled
check 'what nobody synced is lost: the cuts were cuts' lost_what_nobody_synced
check 'no .part left, no key in a file, the database is whole' no_leftovers
