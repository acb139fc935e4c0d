#!/usr/bin/env bash
# The package in a Debian that is really booted (systemd as PID 1 in a container), under load, through everything that
# befalls a service. The provider's double runs outside, where no kill reaches its ledger.
#   tests/packaging/boot.sh OLD.deb NEW.deb [DEBUG-KLINGD]      (as root; some seven minutes)
# With a debug build (target/debug/klingd), a lane is made to hang, too: release builds have no such switch.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"

old=$1 new=$2 debug=${3:-}
machine=$work/machine
echo 0 >"$work/expected"

# ── the machine ──

boot() {
    systemd-nspawn -D "$machine" --boot --register=no --keep-unit -q --console=pipe >>"$work/console.log" 2>&1 </dev/null &
    echo $! >"$work/nspawn"
    ends_with_us $!
    within 30 pgrep -P "$(cat "$work/nspawn")" || die "no machine: $(cat "$work/console.log")"
    pgrep -P "$(cat "$work/nspawn")" | head -n 1 >"$work/leader"
    ends_with_us "$(cat "$work/leader")"
    within 90 inside systemctl is-active -q multi-user.target
}
inside() {
    nsenter -t "$(cat "$work/leader")" -m -u -i -n -p -- env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}
alice() { inside runuser -u alice -- "$@"; }
gone() { not kill -0 "$(cat "$work/nspawn")"; }
power_off() {
    inside systemctl poweroff
    within 60 gone
}
# PID 1 of the machine is killed, and with it everything in there, at once.
cut_power() {
    kill -9 "$(cat "$work/leader")"
    within 30 gone
}

# ── what is asked ──

is() { [ "$(inside systemctl show -P "$1" klingd)" = "$2" ] || die "$1 is $(inside systemctl show -P "$1" klingd), not $2"; }
active() { is ActiveState active; }
main() { inside systemctl show -P MainPID klingd; }
restarted_after() { [ "$(main)" != 0 ] && [ "$(main)" != "$1" ] && active; }
journal_says() { inside journalctl -u klingd --no-pager -o cat | hears "$1"; }
jobs() { alice klingd --json list -a >"$work/jobs.json" 2>"$work/jobs.err" || die "$(cat "$work/jobs.err")"; }
in_state() { jobs && grep -q "\"state\":\"$1\"" "$work/jobs.json"; }
on_the_wire() { in_state submitting; }

# A file into the inbox, as a person drops it.
drop() {
    batch "$1" "$2" >"$work/$1.toml"
    chmod 644 "$work/$1.toml"
    cp "$work/$1.toml" "$machine/home/alice/$1.toml"
    alice cp "/home/alice/$1.toml" /var/lib/klingd/inbox/
    acknowledged "$2"
    within 60 all_queued
}
acknowledged() { echo "$(($(cat "$work/expected") + $1))" >"$work/expected"; }
all_queued() { jobs && [ "$(wc -l <"$work/jobs.json")" -eq "$(cat "$work/expected")" ]; }
status_says() { inside systemctl show -P StatusText klingd | hears "$1"; }

# What a person does about doubt: looks at the provider, says what is there, and waits for the rest.
settle() {
    local id rest
    jobs
    ledger
    "$here/promise.py" doubts "$work/ledger.json" "$work/jobs.json" >"$work/doubts"
    while read -r id rest; do
        # shellcheck disable=SC2086
        alice klingd resolve "$id" $rest --yes </dev/null || die "resolve $id $rest"
    done <"$work/doubts"
    alice klingd wait --all --timeout 3m >/dev/null || die "$(alice klingd list)"
}
holds() {
    settle
    jobs
    ledger
    "$here/promise.py" verdict "$work/ledger.json" "$work/jobs.json" "$(cat "$work/expected")" "$machine"
}

# ── the scenes ──

installed_not_started() {
    inside dpkg --install /old.deb
    is UnitFileState enabled
    inside systemctl start klingd
    is ActiveState inactive
    is ConditionResult no
}
queued_before_the_first_start() {
    # Whoever is first makes the database: the service must be able to write to it.
    alice sh -c 'umask 077; klingd enqueue --type std-text-to-video --no-sound --duration 5 --prompt first'
    acknowledged 1
}
started_with_a_key() {
    inside sh -c 'umask 077; echo sandbox-key >/etc/klingd/api-key'
    inside systemctl start klingd
    active
    [ "$(inside ps -o user= -p "$(main)")" = klingd ]
    [ "$(inside stat -c %a /run/credentials/klingd.service/api-key)" = 400 ]
    status_says 'credits today'
}
file_becomes_video() {
    drop fox 2
    holds
    [ "$(inside stat -c %G /var/lib/klingd/accepted)" = klingd ]
    alice sh -c 'cat /var/lib/klingd/accepted/*/fox.toml.status.txt' | hears mp4
    # A folder made by a person is a tag, and klingd may take files out of it.
    alice mkdir /var/lib/klingd/inbox/winter
    batch hare 1 >"$machine/home/alice/hare.toml"
    alice cp /home/alice/hare.toml /var/lib/klingd/inbox/winter/
    acknowledged 1
    within 60 all_queued
}
stranger_gets_a_sentence() {
    local said
    said=$(inside runuser -u bob -- klingd list 2>&1) && die 'bob may read the queue'
    [ "$(wc -l <<<"$said")" -le 4 ] || die "$said"
    grep -qi 'permission' <<<"$said" || die "$said"
    not inside runuser -u bob -- cat /etc/klingd/api-key
    not inside runuser -u bob -- ls /var/lib/klingd
    not alice cat /etc/klingd/api-key
}
reloaded_under_load() {
    drop reload 8
    local before
    before=$(main)
    sed -i '/per_day/d' "$machine/etc/klingd/klingd.toml"
    printf '[budget]\nper_day = 123456\n' >>"$machine/etc/klingd/klingd.toml"
    inside systemctl reload klingd
    within 10 status_says 123,456
    sed -i 's/123456/"many"/' "$machine/etc/klingd/klingd.toml"
    inside systemctl reload klingd || true
    within 10 status_says 'not used'
    sed -i 's/"many"/0/' "$machine/etc/klingd/klingd.toml"
    inside systemctl reload klingd
    [ "$(main)" = "$before" ] || die 'the reload was a restart'
}
restarted_under_load() {
    drop restart 8
    within 60 on_the_wire
    inside systemctl restart klingd
    active
    jobs
    not grep -q '"state":"in_doubt"' "$work/jobs.json" || die 'a restart put a job in doubt'
}
stopped_under_load() {
    drop stop 8
    within 60 on_the_wire
    inside systemctl stop klingd
    is ActiveState inactive
    is Result success
    is ExecMainStatus 0
    jobs
    not grep -qE '"state":"(submitting|in_doubt)"' "$work/jobs.json" || die 'a stop left a request on the wire'
    # The queue is open while nobody serves it.
    alice klingd enqueue --type std-text-to-video --no-sound --duration 5 --prompt 'while away'
    acknowledged 1
    inside systemctl start klingd
}
killed_under_load() {
    drop kill 8
    within 60 on_the_wire
    local before
    before=$(main)
    inside kill -9 "$before"
    within 60 restarted_after "$before"
    holds
}
# The whole process stands still: systemd's SIGABRT wakes it, to die.
frozen_process() {
    drop frozen 4
    local before
    before=$(main)
    inside kill -STOP "$before"
    within 90 restarted_after "$before"
    journal_says 'Watchdog timeout'
    holds
}
# One lane hangs while everything else works.
hung_lane() {
    install -m 755 "$debug" "$machine/usr/local/bin/klingd-debug"
    dropin hang '[Service]' 'ExecStart=' 'ExecStart=/usr/local/bin/klingd-debug run' 'Environment=KILL_KLINGD_AT=submit.before_intent=hang'
    inside systemctl restart klingd
    local before
    before=$(main)
    drop hung 4
    # Killed for its silence, and again, for as long as the lane hangs; the queue stays readable.
    within 120 restarted_after "$before"
    journal_says 'submit.*nothing new is begun'
    rm "$machine/etc/systemd/system/klingd.service.d/hang.conf"
    inside systemctl daemon-reload
    inside systemctl restart klingd
    holds
}
machine_killed() {
    drop cut 8
    within 60 on_the_wire
    cut_power
    boot
    within 60 active
    holds
}
upgraded_under_load() {
    drop upgrade 8
    within 60 on_the_wire
    local before
    before=$(main)
    inside dpkg --install /new.deb
    restarted_after "$before"
    jobs
    not grep -q '"state":"in_doubt"' "$work/jobs.json" || die 'the upgrade put a job in doubt'
    holds
}
bad_configuration() {
    echo 'no_such_key = 1' >"$work/bad" && cat "$machine/etc/klingd/klingd.toml" >>"$work/bad"
    cp "$machine/etc/klingd/klingd.toml" "$work/good"
    cp "$work/bad" "$machine/etc/klingd/klingd.toml"
    inside systemctl restart klingd && die 'it started'
    is ExecMainStatus 78
    is NRestarts 0
    cp "$work/good" "$machine/etc/klingd/klingd.toml"
    inside systemctl restart klingd
    active
}
other_places() {
    mkdir -p "$machine/srv/videos"
    inside chown klingd:klingd /srv/videos
    sed -i '1i output.root = "/srv/videos"' "$machine/etc/klingd/klingd.toml"
    dropin places '[Unit]' 'RequiresMountsFor=/srv/videos' '[Service]' 'ReadWritePaths=/srv/videos'
    inside systemctl restart klingd
    drop elsewhere 1
    holds
    find "$machine/srv/videos" -name '*.mp4' | hears .
}
# What a hook or ffprobe would do, in a unit that differs by its command only.
children_live() {
    sed -e 's/^Type=.*/Type=oneshot/; /^Restart/d; /^ExecReload/d; /^WatchdogSec/d' \
        -e 's|^ExecStart=.*|ExecStart=/bin/sh /var/lib/klingd/hook|' \
        "$machine/lib/systemd/system/klingd.service" >"$machine/etc/systemd/system/klingd-hook.service"
    cat >"$machine/var/lib/klingd/hook" <<'SH'
set -eu
file=$(mktemp)
echo x | gzip >"$file.gz"
perl -e 'open my $f, "<", "/proc/self/status" or die; print <$f>' >"$file"
# Refused with an error, not with a signal.
refused() { if "$@"; then echo "allowed: $*" && exit 9; elif [ $? -ge 128 ]; then echo "killed: $*" && exit 9; fi; }
refused chown root "$file"
refused chmod u+s "$file"
refused touch /etc/klingd/mark
refused ls /home/alice
sh -c 'ulimit -n 100; exec true'
echo lived >/var/lib/klingd/lived
SH
    inside systemctl daemon-reload
    inside systemctl start klingd-hook || die "$(inside systemctl status --no-pager klingd-hook)"
    [ "$(inside stat -c '%a %U' /var/lib/klingd/lived)" = '660 klingd' ]
    inside rm /var/lib/klingd/lived /var/lib/klingd/hook /etc/systemd/system/klingd-hook.service
}
# A hook of the configuration, with what the unit refuses its children.
told_by_hook() {
    printf '#!/bin/sh\n(cat; echo) >>/var/lib/klingd/told\n' >"$machine/usr/local/bin/notify-me"
    chmod 755 "$machine/usr/local/bin/notify-me"
    printf '[[hook]]\nname = "rig"\non = ["job.done", "batch.done"]\nrun = ["/usr/local/bin/notify-me"]\n' \
        >>"$machine/etc/klingd/klingd.toml"
    inside systemctl reload klingd
    drop told 2
    holds
    within 20 hook_heard 2 job.done
    within 20 hook_heard 1 batch.done
    jobs
    "$here/promise.py" told "$machine/var/lib/klingd/told" "$work/jobs.json"
}
hook_heard() { [ "$(grep -c "\"event\":\"$2\"" "$machine/var/lib/klingd/told")" -ge "$1" ]; }
# The service's key and videos are not theirs: that must not look like a mistake.
doctor_is_content() {
    local who
    for who in root alice; do
        inside runuser -u "$who" -- klingd --json doctor >"$work/doctor" 2>&1 || die "$who: $(cat "$work/doctor")"
        not grep -vE '^\{"klingd"|"verdict":"ok"' "$work/doctor" || die "$who: $(cat "$work/doctor")"
        [ "$(wc -l <"$work/doctor")" -ge 8 ] || die "$who: $(cat "$work/doctor")"
    done
}
# The machine has the host's network, and so its loopback.
looked_at() {
    local at=$((20000 + RANDOM % 10000))
    printf '[metrics]\nlisten = "%s"\n' "$at" >>"$machine/etc/klingd/klingd.toml"
    inside systemctl restart klingd
    within 10 curl -sf "http://127.0.0.1:$at/livez"
    within 10 curl -sf "http://127.0.0.1:$at/readyz"
    curl -sf "http://127.0.0.1:$at/metrics" >"$work/metrics"
    [ "$(tail -n 1 "$work/metrics")" = '# EOF' ]
    grep -q '^klingd_jobs{' "$work/metrics" || die "$(cat "$work/metrics")"
    # On loopback only.
    [ "$(inside ss -Hltn "sport = :$at" | awk '{ print $4 }')" = "127.0.0.1:$at" ]
    # Held, it says so to whoever sends it work, and lives.
    alice klingd pause
    within 10 not_ready "$at"
    curl -sf "http://127.0.0.1:$at/livez" -o /dev/null
    alice klingd resume
    within 10 curl -sf "http://127.0.0.1:$at/readyz"
}
not_ready() { [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$1/readyz")" = 503 ]; }
videos_are_decoded() {
    sed -i '1i output.verify = "decode"' "$machine/etc/klingd/klingd.toml"
    inside systemctl restart klingd
    drop decoded 1
    holds
    # A decoder that can't run in there, or complains, leaves a remark.
    grep '"decoded-1"' "$work/jobs.json" | hears '"notes":\[\]' || die "$(grep '"decoded-1"' "$work/jobs.json")"
}
# What is queued in the copy is paid after it was made: put back, it must not be paid again.
backed_up_and_restored() {
    alice klingd pause
    drop copied 2
    inside klingd backup /var/backups/klingd.db
    [ "$(inside stat -c '%a %U' /var/backups/klingd.db)" = '600 root' ]
    alice klingd resume
    holds
    inside systemctl stop klingd
    # As the command says it.
    inside cp /var/backups/klingd.db /var/lib/klingd/klingd.db
    inside rm -f /var/lib/klingd/klingd.db-wal /var/lib/klingd/klingd.db-shm
    inside systemctl start klingd
    active
    within 20 status_says restored
    alice klingd resume
    # It works otherwise: what is dropped is queued, and nothing of it leaves.
    drop held 1
    sleep 5
    jobs
    [ "$(grep -c '"state":"queued"' "$work/jobs.json")" -eq 3 ] || die "$(alice klingd list)"
    # What a person finds out: those two were paid.
    local id
    for id in $(sed -n 's/^{"id":\([0-9]*\),.*"prompt":"copied .*/\1/p' "$work/jobs.json"); do
        alice klingd cancel "$id" --yes
    done
    alice klingd resume --hold restored
    alice klingd wait --all --timeout 3m >/dev/null || [ $? -eq 4 ]
    in_state done
    ledger
    "$here/promise.py" once "$work/ledger.json" "$work/jobs.json"
}
encrypted_key() {
    inside systemd-creds encrypt --with-key=host --name=api-key /etc/klingd/api-key /etc/klingd/api-key.cred
    inside rm /etc/klingd/api-key
    dropin key '[Service]' 'LoadCredential=' 'LoadCredentialEncrypted=api-key:/etc/klingd/api-key.cred'
    inside systemctl restart klingd
    active
    drop secret 1
    holds
}
journal_by_job() {
    inside journalctl --no-pager -o cat -u klingd KLINGD_JOB=1 >"$work/job-1"
    grep -q 'generating' "$work/job-1" && grep -q 'done' "$work/job-1" || die "$(cat "$work/job-1")"
    not grep -rqa sandbox-key "$machine/var/log/journal" || die 'the key is in the journal'
    not grep -rqa sandbox-key "$machine/var/lib/klingd" || die 'the key is in the data directory'
}
for_one_person() {
    inside loginctl enable-linger alice
    within 30 inside test -S /run/user/1000/systemd/private
    alice mkdir -p /home/alice/.config/klingd
    printf '[api]\nbase_url = "http://127.0.0.1:%s"\n[poll]\nfirst = "1s"\n' "$port" >"$machine/home/alice/.config/klingd/klingd.toml"
    alice sh -c 'umask 077; echo sandbox-key >/home/alice/.config/klingd/api-key'
    user() { alice env XDG_RUNTIME_DIR=/run/user/1000 HOME=/home/alice "$@"; }
    user systemctl --user daemon-reload
    user systemctl --user start klingd
    user systemctl --user is-active klingd
    user klingd enqueue --type std-text-to-video --no-sound --duration 5 --prompt 'of her own' --wait
    find "$machine/home/alice/.local/share/klingd/videos" -name '*.mp4' | hears .
    user systemctl --user stop klingd
}
removed_and_purged() {
    local videos
    videos=$(find "$machine/var/lib/klingd/videos" "$machine/srv/videos" -name '*.mp4' | wc -l)
    inside dpkg --remove klingd
    not inside pgrep -x klingd
    inside dpkg --purge klingd
    [ "$(find "$machine/var/lib/klingd/videos" "$machine/srv/videos" -name '*.mp4' | wc -l)" -eq "$videos" ]
    inside test -e /var/lib/klingd/klingd.db
    not inside test -e /etc/klingd/api-key
    not inside systemctl cat klingd
}

# A drop-in of that name from these lines.
dropin() {
    local name=$1
    shift
    mkdir -p "$machine/etc/systemd/system/klingd.service.d"
    printf '%s\n' "$@" >"$machine/etc/systemd/system/klingd.service.d/$name.conf"
    inside systemctl daemon-reload
}

say "a machine in $machine"
debian "$machine" ffmpeg
cp "$old" "$machine/old.deb"
cp "$new" "$machine/new.deb"
sandbox --render 1 --video-bytes 300000 --faults 'generate:slow=1500@*'
inside_home() { chroot "$machine" "$@"; }
inside_home useradd --create-home --uid 1000 alice
inside_home useradd --create-home bob
boot
say "$(inside systemctl --version | head -n 1), kernel $(uname -r)"

check 'install: enabled; without a key a start does nothing and says why' installed_not_started
inside usermod -aG klingd alice
# Looked at often: the double renders in a second.
printf '[api]\nbase_url = "http://127.0.0.1:%s"\n[poll]\nfirst = "1s"\nevery = "1s"\n' "$port" >>"$machine/etc/klingd/klingd.toml"
# The same watchdog, less patient; nothing of the unit that ships is changed otherwise.
dropin rig '[Service]' 'WatchdogSec=8s'
check 'a member of the group queues before the first start, with a tight umask' queued_before_the_first_start
check 'key put, started: ready, its own user, key 0400, a status line' started_with_a_key
check 'a file is dropped, the video is there; a sub-folder is a tag' file_becomes_video
check 'who is not in the group gets a sentence, and sees nothing' stranger_gets_a_sentence
check 'systemctl reload under load: taken; a bad one refused; no restart' reloaded_under_load
check 'systemctl restart under load: nothing in doubt' restarted_under_load
check 'systemctl stop under load: requests on the wire finished, exit 0; queue open meanwhile' stopped_under_load
check 'kill -9 under load: restarted, each job charged once' killed_under_load
check 'SIGSTOP of the process: the watchdog restarts it' frozen_process
if [ -n "$debug" ]; then
    check 'one lane hangs: the watchdog restarts it, again until it works' hung_lane
fi
check 'the whole machine killed in mid-work, booted again: each job charged once' machine_killed
check 'upgrade under load: restarted after the requests on the wire, nothing in doubt' upgraded_under_load
check 'a mistake in the configuration: exit 78, no restart' bad_configuration
check 'output.root elsewhere, by the drop-in of the unit'\''s comment' other_places
check 'children of the service (hooks, ffprobe) work; what is refused gives an error, no signal' children_live
check 'a hook is told of each job and its batch, under the unit'\''s hardening' told_by_hook
check 'doctor: all is well, for root and for a member of the group' doctor_is_content
check '/livez, /readyz and /metrics on loopback, and there only; /readyz knows a hold' looked_at
check 'output.verify = "decode": ffmpeg under the unit'\''s hardening' videos_are_decoded
check 'the key encrypted by systemd-creds, by the drop-in of the comment' encrypted_key
check 'journalctl KLINGD_JOB=1; the key is in no log and no file of the queue' journal_by_job
# From here on the provider's ledger and the queue are no longer the same.
check 'a backup put back is held, and what was paid since is not paid again' backed_up_and_restored
check 'the user unit: a queue of her own' for_one_person
check 'remove stops it; purge takes configuration and key; videos and queue stay' removed_and_purged
check 'the machine powers off' power_off
