# Runs in the guest: lunette drives namespaces of the kernel's NVMe/TCP target and serves them to the guest's initiator.
#   LUN 0: a namespace that grows; LUN 1: another, which is written and verified while the target dies and comes back
. lablib.sh
IQN=iqn.2026-11.io.lunette:fabric PORTAL=127.0.0.1:3260 NQN=nqn.2026-11.io.lunette:fabric
modprobe loop || die "no loop devices"
mkdir -p /tmp/d
backing() { # NAME MIB -> a block device on a file in memory
  truncate -s "$2M" "/tmp/d/$1" && losetup -f --show "/tmp/d/$1" || die "no loop device for $1"
}
grows=$(backing grows 64) || die "$grows"
steady=$(backing steady 48) || die "$steady"
nvmet_begin
nvmet_subsystem "$NQN" "$grows" "$steady"
nvmet_port 127.0.0.1
nvmet_open "$NQN"

start_lunette -m 0x3
attach() { # SECONDS: it is given up so long after it was lost
  rpc bdev_nvme_attach_controller "{\"name\":\"N\",\"trtype\":\"TCP\",\"traddr\":\"127.0.0.1\",\"subnqn\":\"$NQN\",\"ctrlr_loss_timeout_sec\":$1}"
}
is_state() { rpc bdev_nvme_get_controllers '{"name":"N"}' | grep -qE "\"state\": ?\"$1\""; }
becomes() { # STATE SECONDS
  if until_true "$2" is_state "$1"; then ok "the controller is $1"; else bad "the controller is not $1: $(tail -3 /out/lunette.log)"; fi
}
is_bdev_of() { rpc bdev_get_bdevs "{\"name\":\"$1\"}" | grep -qE "\"num_blocks\": ?$2\b"; } # BDEV BLOCKS
try "attach" 0 Nn1 Nn2 -- attach 60
serve "$IQN" Nn1 Nn2
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
wait_disk "$IQN" 2 >/dev/null || die "no disks"

step "a namespace grows"
mark
disk=$(disk_of 0)
is_size() { [[ $(<"/sys/block/$disk/size") = "$1" ]]; }
is_size 131072 && ok "64 MiB" || bad "it has $(<"/sys/block/$disk/size") sectors"
loaded 0 & load=$!
truncate -s 96M /tmp/d/grows && losetup -c "$grows" || die "the loop device does not grow"
is_bdev_of Nn1 131072 && ok "nobody was told yet" || bad "somebody was told"
echo 1 >"$nvmet/subsystems/$NQN/namespaces/1/revalidate_size" || die revalidate_size
if until_true 10 is_bdev_of Nn1 196608; then ok "the event reaches the bdev"; else bad "the bdev: $(rpc bdev_get_bdevs '{"name":"Nn1"}')"; fi
kernel_says "the initiator is told" "Capacity data has changed"
scan
if until_true 10 is_size 196608; then ok "the initiator sees 96 MiB"; else bad "the initiator sees $(<"/sys/block/$disk/size") sectors"; fi
check "what was not there before" verified 0 16m --offset=72m
touch /tmp/enough.0
wait "$load" && ok "what is written meanwhile is right" || bad "what is written meanwhile is right"

step "the target dies and comes back"
mark
loaded 1 & load=$!
disk=$(disk_of 1)
sleep 1
nvmet_shut "$NQN"
becomes resetting 20
sleep 1
before=$(written "$disk")
sleep 4
[[ $(written "$disk") = "$before" ]] && ok "IO waits" || bad "IO waits"
nvmet_open "$NQN"
becomes enabled 20
goes_on() { (($(written "$disk") > before + 20000)); }
until_true 30 goes_on && ok "IO goes on" || bad "IO goes on"
step "again, twice, at once"
for _ in 1 2; do
  nvmet_shut "$NQN"; nvmet_open "$NQN"
  sleep 0.5
  becomes enabled 20
done
touch /tmp/enough.1
wait "$load" && ok "all of it is right" || bad "all of it is right"
if says 'I/O error|Medium Error|Hardware Error'; then bad "the initiator saw errors: $(dmesg | tail -3)"; else ok "the initiator saw no errors"; fi
rm /tmp/enough.1

step "past its time it is gone"
check "detached" rpc bdev_nvme_detach_controller '{"name":"N"}'
for name in /sys/block/sd*; do echo 1 >"$name/device/delete"; done
try "attached for 5 seconds" 0 Nn1 Nn2 -- attach 5
rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"Nn2\",\"lun_id\":1}" >/dev/null || die "no LUN 1"
scan
until_true 20 has_disk 1 || die "no disk at LUN 1"
loaded 1 >/tmp/doomed 2>&1 & load=$!
sleep 1
nvmet_shut "$NQN"
lost=$SECONDS
becomes '(resetting|failed)' 20 # a look may come when it is given up
becomes failed 30
((SECONDS - lost >= 4)) && ok "it was waited for" || bad "it was given up after $((SECONDS - lost)) s"
is_ready() { rpc bdev_get_bdevs '{"name":"Nn2"}' | grep -qE '"num_blocks": ?[1-9]'; }
is_ready && bad "its disk is ready" || ok "its disk is not ready"
wait "$load" && bad "IO went on" || ok "IO ends"
try "its call stays in the configuration" 0 "\"subnqn\": ?\"$NQN\"" -- rpc lunette_get_config
try "and its LUN" 0 '"bdev_name": ?"Nn2"' -- rpc lunette_get_config
nvmet_open "$NQN"
until_true 30 is_ready && ok "it comes back by itself" || bad "it comes back by itself"
check "detached" rpc bdev_nvme_detach_controller '{"name":"N"}'
try "attached again" 0 Nn1 Nn2 -- attach 5
logout "$IQN" "$PORTAL" >/dev/null
stop_lunette
if dmesg | grep -vE '(soft|workqueue) lockup' | grep -E 'BUG:|Oops|WARNING:'; then bad "the kernel complains"; else ok "the kernel does not complain"; fi
finish
