# Runs in the guest, under systemd: the package installed, started, upgraded, removed, purged; its sockets kept by
# systemd; with LONG=1 the service under its watchdog, and the package installed again after it was removed, and disabled.
. lablib.sh
iqn=iqn.2026-11.io.lunette:packaged
rpc() { lunette rpc --socket /run/lunette/rpc.sock "$@"; }
state() { systemctl show -P "$1" lunette; }
is_up() { [[ $(state ActiveState) = active ]]; }
main_pid_is_new() { is_up && [[ $(state MainPID) != "$1" ]]; }
status_is_told() { [[ $(state StatusText) = *"sessions: $1"* ]]; }
install_package() { dpkg -i "$SHARE/$1" >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; journalctl -u lunette --no-pager | tail -20; return 1; }; }
remove() { dpkg "$@" >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log; return 1; }; } # for as long as it takes
is_gone() { local path; for path; do [[ ! -e $path ]] || { echo "$path"; return 1; }; done; }
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
data() { dd if="/dev/$(wait_disk "$iqn")" bs=1M count=4 iflag=direct status=none | sha256sum; }

step "installed"
check "the package installs" install_package first.deb
check "the service is up when dpkg has ended" is_up
check "it is enabled" systemctl -q is-enabled lunette
try "it does not run as root" 0 '^lunette$' -- ps -o user= -p "$(state MainPID)"
try "its configuration is closed to others" 0 '^600 lunette$' -- stat -c '%a %U' /var/lib/lunette/lunette.json
try "root's commands find it" 0 -- lunette status
try "nothing listens before anything is shared" 1 -- grep -q ':0CBC .* 0A ' /proc/net/tcp /proc/net/tcp6
try "its exposure by systemd's reckoning" 0 'Overall exposure level for lunette.service: [012]\.' -- systemd-analyze security --no-pager lunette.service

step "a file and a block device are shared"
mkdir -p /srv; disk=$(drive labdata)
chgrp disk "$disk"; chmod 660 "$disk"
install -d -o lunette -g lunette /srv/lunette
check "a disk from a file" rpc bdev_aio_create '{"name":"f","filename":"/srv/lunette/disk.img","block_size":512,"lunette_create_size":33554432}'
check "a disk from a block device" rpc bdev_aio_create "{\"name\":\"b\",\"filename\":\"$disk\"}"
check "a portal group" rpc iscsi_create_portal_group '{"tag":1,"portals":[{"host":"127.0.0.1","port":"3260"}]}'
check "an initiator group" rpc iscsi_create_initiator_group '{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}'
check "a target" rpc iscsi_create_target_node "{\"name\":\"$iqn\",\"alias_name\":\"\",\"queue_depth\":64,
  \"luns\":[{\"bdev_name\":\"f\",\"lun_id\":0}],\"pg_ig_maps\":[{\"pg_tag\":1,\"ig_tag\":1}]}"
start_iscsid
check "the kernel's initiator finds it" discover 127.0.0.1:3260
check "and logs in" login "$iqn" 127.0.0.1:3260
dd if=/dev/urandom of="/dev/$(wait_disk "$iqn")" bs=1M count=4 oflag=direct status=none
before=$(data)
check "systemctl status says how many are there" until_true 40 status_is_told 1

step "reloaded"
cp /var/lib/lunette/lunette.json /tmp/good.json
check "reload of what is in force" systemctl reload lunette
python3 - /var/lib/lunette/lunette.json <<'EDIT'
import json, sys
with open(sys.argv[1]) as file:
    saved = json.load(file)
calls = next(subsystem["config"] for subsystem in saved["subsystems"] if subsystem["subsystem"] == "iscsi")
at = next(index for index, call in enumerate(calls) if call["method"] == "iscsi_create_initiator_group")
calls.insert(at, {"method": "iscsi_create_initiator_group", "params": {"tag": 9, "initiators": ["ANY"], "netmasks": ["ANY"]}})
with open(sys.argv[1], "w") as file:
    json.dump(saved, file)
EDIT
check "reload of what was written by hand" systemctl reload lunette
try "is in force" 0 '"tag": 9' -- rpc iscsi_get_initiator_groups
echo '{' >/var/lib/lunette/lunette.json
try "a file that is broken is refused" 1 -- systemctl reload lunette
check "and what was served still is" is_up
install -o lunette -g lunette -m 600 /tmp/good.json /var/lib/lunette/lunette.json

if [[ -n ${LONG:-} ]]; then # its watchdog waits for 30 s
  step "hangs"
  pid=$(state MainPID)
  kill -STOP "$pid"
  check "a process that stands still is ended by the watchdog and started again" until_true 90 main_pid_is_new "$pid"
  check "the initiator has its disk again" test "$(data)" = "$before"
fi

step "upgraded"
pid=$(state MainPID)
echo '# kept' >>/etc/lunette/serve.conf
check "the next version installs over it" install_package second.deb
check "it was started anew" main_pid_is_new "$pid"
try "the next version is there" 0 '^0\.[0-9.]*-2$' -- dpkg-query -W -f '${Version}' lunette
try "serve.conf is as the administrator left it" 0 -- grep -q '^# kept' /etc/lunette/serve.conf
check "the initiator notices nothing but a reconnect" test "$(data)" = "$before"
if dmesg | grep -E 'I/O error|offlined'; then bad "errors came through"; else ok "no error came through"; fi
check "it logs out" logout "$iqn" 127.0.0.1:3260

step "its sockets are kept by systemd"
# That of a portal beside the package's for calls: docs/service.md.
cat >/etc/systemd/system/lunette-portal.socket <<'UNIT'
[Socket]
ListenStream=127.0.0.1:3260
Service=lunette.service
FileDescriptorName=portal
UNIT
systemctl daemon-reload
systemctl stop lunette
check "the socket for calls" systemctl enable -q --now lunette.socket
check "and that of the portal" systemctl start lunette-portal.socket
try "the service does not run" 3 -- systemctl -q is-active lunette
try "root and its user have the socket" 0 '^600 lunette$' -- stat -c '%a %U' /run/lunette/rpc.sock
socket=$(stat -c %i /run/lunette/rpc.sock)
check "a call starts it and is answered" rpc spdk_get_version
check "it is up" until_true 20 is_up
try "others cannot open it" 3 'Permission denied' -- as_nobody lunette rpc --socket /run/lunette/rpc.sock spdk_get_version
chmod 666 /run/lunette/rpc.sock
try "nor are they heard where they can" 1 -- as_nobody lunette rpc --socket /run/lunette/rpc.sock spdk_get_version
chmod 600 /run/lunette/rpc.sock
check "it stops" systemctl stop lunette
check "a login starts it, and is let in" login "$iqn" 127.0.0.1:3260
check "to the same bytes" test "$(data)" = "$before"
check "it logs out of it" logout "$iqn" 127.0.0.1:3260
pid=$(state MainPID)
# Who was taken in, and was too slow to say anything before the daemon ended (1), comes again; who finds nobody (3) was refused.
comes() { rpc spdk_get_version >>/tmp/calls.log 2>&1; }
{ for _ in {1..100}; do rc=0; comes || rc=$?; ((rc != 1)) || { rc=0; comes || rc=$?; }; ((rc == 0)) || exit 1; done; } & calls=$!
check "it is restarted" systemctl restart lunette
rc=0; wait "$calls" || rc=$?
check "it is another process" main_pid_is_new "$pid"
check "nobody who called meanwhile was refused" test "$rc" = 0
check "the socket is the same" test "$(stat -c %i /run/lunette/rpc.sock)" = "$socket"
systemctl stop lunette-portal.socket 2>/dev/null
rm /etc/systemd/system/lunette-portal.socket
systemctl daemon-reload

step "removed, installed again, purged"
check "it is removed" remove -r lunette
try "nothing of it runs" 1 -- pgrep -x lunette
check "systemd has its socket no more" is_gone /run/lunette
check "its configuration stays" test -s /var/lib/lunette/lunette.json -a -s /etc/lunette/serve.conf
if [[ -n ${LONG:-} ]]; then
  check "it is installed again" install_package second.deb
  check "and serves what it served" login "$iqn" 127.0.0.1:3260
  check "the same bytes" test "$(data)" = "$before"
  check "it logs out again" logout "$iqn" 127.0.0.1:3260
  systemctl disable -q lunette
  check "an upgrade" install_package second.deb
  try "leaves a service disabled that was" 1 -- systemctl -q is-enabled lunette
fi
cp /srv/lunette/disk.img /var/lib/lunette/disk.img
echo secret >/etc/lunette/joe.secret
check "it is purged" remove -P lunette
check "what it has written is gone" is_gone /run/lunette /lib/systemd/system/lunette.{service,socket} /etc/lunette/serve.conf \
  /etc/systemd/system/{sockets,multi-user}.target.wants/lunette.{service,socket}
check "a disk's file beside it is not" test "$(ls -A /var/lib/lunette)" = disk.img
check "and is whole" cmp /srv/lunette/disk.img /var/lib/lunette/disk.img
check "nor is an administrator's file" test "$(ls -A /etc/lunette)" = joe.secret
rm /var/lib/lunette/disk.img /etc/lunette/joe.secret
check "it is installed once more" install_package second.deb
check "and purged" remove -P lunette
check "nothing is left" is_gone /var/lib/lunette /etc/lunette /run/lunette /lib/systemd/system/lunette.service
try "the disk's file is nobody's business but its owner's" 0 -- test -s /srv/lunette/disk.img
finish
