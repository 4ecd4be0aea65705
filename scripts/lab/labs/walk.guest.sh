# Runs in the guest, under systemd: what somebody does who moves from tgt to lunette. Each command with what it said is in
# /out/walk.txt. tgt serves a disk that is mounted; lunette is installed beside it and shares one of its own; tgt's
# configuration is imported and its disk taken over under IO; top, metrics and page are looked at; three things are broken, and
# found by status, by the recorder and by doctor; at last the configuration goes back to what it was before the import.
. lablib.sh
export LC_ALL=C.UTF-8 # tmux wants one
old=iqn.2026-11.com.example:old new=iqn.2026-11.io.lunette:store
config=/var/lib/lunette/lunette.json serve_conf=/etc/lunette/serve.conf
walk=/out/walk.txt
chapter() { step "$*"; printf '\n## %s\n' "$*" >>"$walk"; }
walks() { # NAME STATUS [PATTERN...] -- COMMAND, in one string: as `try`, and in the transcript
  local name=$1; shift
  try "$name" "${@:1:$#-1}" shell "${*: -1}"
  printf '\n# %s\n$ %s\n%s\n' "$name" "${*: -1}" "$said" >>"$walk"
}
shell() { bash -c "$1"; } # for as long as it takes
state() { systemctl show -P "$1" lunette; }
is_up() { [[ $(state ActiveState) = active ]]; }
options() { echo "LUNETTE_OPTIONS=$*" >"$serve_conf"; }
digest() { sha256sum <"/mnt/old/$1" 2>&1; }
identity() { sg_inq "/dev/$1" | grep -E 'identification|level|Unit serial'; sg_vpd -p di_lu "/dev/$1"; } # sdX: what an initiator knows it by
version() { # -> the number of the one that the configuration is
  lunette config history --json --config "$config" | python3 -c 'import json, sys; print([one["version"] for one in json.load(sys.stdin) if one["is_current"]][-1])'
}
says_not_ready() { lunette status | grep -q 'not ready'; }
is_ready() { ! says_not_ready; }
grows() { local was; was=$(written "$1"); sleep 1; (($(written "$1") > was)); } # sdX
load() { # SECONDS: fio writes and verifies in a file on the mounted disk
  fio --name=l --filename=/mnt/old/load --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=8 --size=8m --time_based --runtime="$1" \
    --verify=crc32c --verify_backlog=512 --verify_fatal=1 --verify_state_save=0 --randseed=7 --output=/tmp/fio.out
}
verified() { # PID: of load
  local rc=0
  wait "$1" || rc=$?
  if ((rc == 0)); then ok "all that fio wrote is verified"; else bad "fio: $rc"; cat /tmp/fio.out; fi
  { echo; cat /tmp/fio.out; } >>"$walk"
}
screen() { tmux -L walk capture-pane -p; }
shows() { screen | grep -qE "$1"; }

chapter "tgt serves a disk, and it is in use"
mkdir -p /srv/tgt /srv/lunette /mnt/old
truncate -s 48M /srv/tgt/old.img
printf '<target %s>\n  backing-store /srv/tgt/old.img\n</target>\n' "$old" >/etc/tgt/targets.conf
# By hand, so that it can be killed below, and nothing starts it again.
tgtd -f >/out/tgtd.log 2>&1 & tgtd=$!
check "tgtd is up" until_true 20 tgtadm --op show --mode sys
walks "tgt serves what its configuration says" 0 -- 'tgt-admin -e -c /etc/tgt/targets.conf && tgtadm --op show --mode target'
start_iscsid
check "the initiator finds it" discover 127.0.0.1:3260
check "and logs in" login "$old" 127.0.0.1:3260
disk=$(wait_disk "$old")
mkfs.ext4 -q "/dev/$disk" && mount "/dev/$disk" /mnt/old && head -c 8M /dev/urandom >/mnt/old/kept && sync || die "no file system on $disk"
before=$(digest kept)
identity "$disk" >/tmp/identity

chapter "lunette is installed beside it"
walks "the package" 0 -- 'dpkg -i /mnt/share/first.deb'
options --metrics 127.0.0.1:9090 --record-dir /var/lib/lunette/recordings --slow-io 500
install -d -o lunette -g lunette /var/lib/lunette/recordings
systemctl restart lunette
walks "the service is up" 0 'active \(running\)' -- 'systemctl status --no-pager lunette'
walks "nothing is served yet" 0 -- 'lunette status'

chapter "a disk is shared"
chown lunette: /srv/lunette
walks "one command" 0 "$new" -- 'lunette share --size 64M /srv/lunette/store.img --name store --portal 127.0.0.1:3261'
check "the kernel's initiator finds it" discover 127.0.0.1:3261
walks "and logs in" 0 successful -- "iscsiadm -m node -T $new -p 127.0.0.1:3261 --login"
store=$(wait_disk "$new")
check "it can be written" dd if=/dev/urandom of="/dev/$store" bs=1M count=4 oflag=direct status=none
stored=$(dd if="/dev/$store" bs=1M count=4 iflag=direct status=none | sha256sum)
walks "status shows it" 0 store -- 'lunette status; lunette sessions'
shared=$(version) || die "no version"
check "it logs out" logout "$new" 127.0.0.1:3261

chapter "tgt's configuration is imported, under IO"
walks "import" 0 'maps: ' -- 'lunette import --portal 127.0.0.1:3260 /etc/tgt/targets.conf >/tmp/imported.json'
walks "check" 0 -- 'lunette check /tmp/imported.json'
chown lunette: /srv/tgt /srv/tgt/old.img
mark
load 25 & loaded=$!
check "IO is under way" until_true 20 grows "$disk"
kill -9 "$tgtd"; wait "$tgtd" 2>/dev/null
walks "lunette takes over" 0 -- "systemctl stop lunette && install -o lunette -g lunette -m 600 /tmp/imported.json $config && systemctl start lunette"
check "IO goes on" until_true 60 grows "$disk"
verified "$loaded"
echo 3 >/proc/sys/vm/drop_caches
check "nothing was lost" test "$(digest kept)" = "$before"
walks "the initiator noticed a reconnect and nothing else" 0 'detected conn error' 'State: LOGGED.IN' -- "dmesg | tail -n +$((marked + 1)); iscsiadm -m session -P 1"
if dmesg | tail -n "+$((marked + 1))" | grep -E 'I/O error|offline|EXT4-fs (error|warning)'; then bad "errors came through"; else ok "no error came through"; fi
identity "$disk" >/tmp/identity.now
walks "it is the same disk" 0 -- 'diff /tmp/identity /tmp/identity.now && cat /tmp/identity.now'
walks "status" 0 old -- 'lunette status'

chapter "it is watched under load"
load 30 & loaded=$!
check "IO is under way again" until_true 20 grows "$disk"
walks "Prometheus's figures" 0 '^lunette_bdev_io_seconds_count\{.*\} [1-9]' -- 'curl -sSm 20 http://127.0.0.1:9090/metrics | grep -E "^lunette_(bdev_io_seconds_(count|sum)|bdev_size|lun_info|connections|target|reactor_commands)"'
walks "the page" 0 '<html' -- 'curl -sSm 20 http://127.0.0.1:9090/ | head -c 300'
curl -sSm 20 http://127.0.0.1:9090/ >/out/page.html
walks "what the page reads" 0 old -- 'curl -sSm 20 http://127.0.0.1:9090/status.json | python3 -m json.tool | grep -E "(\"[a-z_]+\": \"|initiator|target)"'
tmux -L walk new-session -d -x 130 -y 30 'lunette top'
check "top shows LUNs" until_true 30 shows 'LUNs, by'
walks "top, its first table" 0 'LUNs, by' -- 'sleep 3; tmux -L walk capture-pane -p'
tmux -L walk send-keys Tab
check "and sessions" until_true 20 shows 'sessions, by'
walks "top, its sessions" 0 'sessions, by' -- 'tmux -L walk capture-pane -p'
tmux -L walk send-keys q
verified "$loaded"

chapter "a file is gone: status"
umount /mnt/old
mv /srv/tgt/old.img /srv/tgt/elsewhere.img
systemctl restart lunette
check "the service is up all the same" until_true 60 is_up
walks "status says which" 0 'not ready, its file or device is missing' -- 'lunette status'
walks "and so does the log" 0 'the disk is not ready' -- 'journalctl -u lunette --no-pager -o cat | grep "not ready" | tail -1'
mv /srv/tgt/elsewhere.img /srv/tgt/old.img
check "it comes up by itself when the file is there" until_true 60 is_ready

chapter "a device hangs: commands in flight, events, the recorder"
slow=$(mapped slow "0 65536 linear $(drive labdata) 0")
chgrp disk "$slow"; chmod 660 "$slow"
walks "the device is shared" 0 hangs -- "lunette share $slow --name hangs"
hangs=iqn.2026-11.io.lunette:hangs
portal=127.0.0.1:3260
check "it is found" discover "$portal"
check "and logged in to" login "$hangs" "$portal"
victim=$(wait_disk "$hangs")
echo 5 >"/sys/block/$victim/device/timeout"
dmsetup suspend --noflush slow
dd if=/dev/zero of="/dev/$victim" bs=4k count=1 oflag=direct 2>/dev/null & writer=$!
waits() { lunette rpc lunette_get_commands '{"older_than_ms":1000}' | grep -q '"device"'; }
check "somebody waits for it" until_true 20 waits
walks "a command waits for the device" 0 device -- "lunette rpc lunette_get_commands '{\"older_than_ms\":1000}'"
tmux -L walk new-session -d -x 130 -y 30 'lunette top'
check "top is up" until_true 30 shows 'LUNs, by'
tmux -L walk send-keys Tab; tmux -L walk send-keys Tab
check "top shows the command" until_true 20 shows 'commands in flight'
walks "top, commands in flight" 0 'commands in flight' -- 'sleep 2; tmux -L walk capture-pane -p'
tmux -L walk send-keys q
is_recorded() { compgen -G '/var/lib/lunette/recordings/*.pcapng' >/dev/null; }
check "the initiator aborts it" until_true 60 is_recorded
dmsetup resume slow
wait "$writer"
walks "the recorder has kept what was said" 0 pcapng -- 'ls -l /var/lib/lunette/recordings'
cp /var/lib/lunette/recordings/*.pcapng /out/
walks "events" 0 task_management -- 'lunette rpc lunette_get_events | tail -60'
check "it works again" dd if="/dev/$victim" of=/dev/null bs=4k count=1 iflag=direct
check "it logs out" logout "$hangs" "$portal"
walks "it is shared no more" 0 -- 'lunette unshare hangs'
dmsetup remove --noudevrules --noudevsync slow

chapter "the service does not start: doctor"
options --hugepages require
walks "it does not start" 1 -- 'systemctl restart lunette'
walks "its log says why" 0 ugepage -- 'journalctl -u lunette --no-pager -o cat | grep -i hugepage | tail -3'
walks "doctor says it too, and what mends it" 0 'sysctl -w vm.nr_hugepages=[0-9]+' -- 'lunette doctor; true'
mend=$(lunette doctor | grep -oE 'sysctl -w vm.nr_hugepages=[0-9]+' | head -1)
walks "that is done" 0 -- "${mend:-false}"
walks "it starts" 0 -- 'systemctl reset-failed lunette; systemctl restart lunette && systemctl is-active lunette'

chapter "back to before the import"
walks "the versions" 0 iscsi_create_target_node -- "lunette config history --config $config"
walks "what has changed since" 0 -- "lunette config diff --config $config $shared"
systemctl stop lunette
walks "back" 0 -- "lunette config rollback --config $config $shared; ls -l $config"
check "it starts with that" systemctl start lunette
walks "the disk of the beginning is there" 0 store -- 'lunette status'
check "the initiator finds it again" login "$new" 127.0.0.1:3261
check "the same bytes" test "$(dd if="/dev/$(wait_disk "$new")" bs=1M count=4 iflag=direct status=none | sha256sum)" = "$stored"
finish
