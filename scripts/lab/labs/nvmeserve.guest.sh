# Runs in the guest, by nvmeserve.sh: lunette serves NVMe namespaces to the guest's own initiator, and to the host.
#   WORLD, FIRST, SECOND, FOURTH, FIFTH: see nvme.sh. CALLS: reads whose system calls are counted. CONFORM: the host runs a suite at port 3260 before anything else, until it connects to 3259
. lablib.sh
IQN=iqn.2026-11.io.lunette:nvme PORTAL=127.0.0.1:3260
setup=$SHARE/setup.sh unsafe=
[[ $WORLD != bare ]] || unsafe=--unsafe-noiommu
"$setup" bind "$FIRST" "$SECOND" >/dev/null || die bind
attach() { # NAME ADDRESS
  rpc bdev_nvme_attach_controller "{\"name\":\"$1\",\"trtype\":\"PCIe\",\"traddr\":\"$2\"}"
}
start() {
  start_lunette -m 0x3 --mem-size 128 $unsafe
  try "attach two namespaces" 0 An1 An2 -- attach A "$FIRST"
}
if [[ -x $SHARE/contract ]]; then
  LUNETTE_NVME_PCI=$FIRST${unsafe:+,unsafe} try "the contract of every block device" 0 'test result: ok. 1 passed' -- \
    "$SHARE/contract" pcie_passes_the_contract
fi
start
try "attach another" 0 'Bn1' -- attach B "$SECOND"
try "attach it twice" 1 'there is a controller A already' -- attach A "$FIRST"
try "attach what is not there" 1 '0000:00:1e.7' -- attach X 0000:00:1e.7
try "bdev_nvme_get_controllers" 0 'LUNETTEA' 'LUNETTEB' 'enabled' -- rpc bdev_nvme_get_controllers
try "bdev_get_bdevs" 0 'NVMe disk' '"block_size": ?4096' -- rpc bdev_get_bdevs
rpc bdev_null_create '{"name":"null","num_blocks":262144,"block_size":512}' >/dev/null || die null
serve "$IQN" An1 An2 Bn1 null

if [[ -n ${CONFORM:-} ]]; then
  rpc iscsi_create_portal_group '{"tag":2,"portals":[{"host":"0.0.0.0","port":"3261"}]}' >/dev/null &&
    rpc iscsi_target_node_add_pg_ig_maps "{\"name\":\"$IQN\",\"pg_ig_maps\":[{\"pg_tag\":2,\"ig_tag\":1}]}" >/dev/null || die "no second path"
  step "serving the host"
  socat -u TCP-LISTEN:3259,reuseaddr /dev/null
  rpc iscsi_delete_portal_group '{"tag":2}' >/dev/null || die "the second path stays"
fi

start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
wait_disk "$IQN" 4 >/dev/null || die "no disks"
step "data"
check "512-byte blocks" verified 0 24m
check "4096-byte blocks" verified 1 24m
check "short commands, two queues" verified 2 24m
check "mkfs" mkfs.ext4 -q "/dev/$(disk_of 1)"
mkdir -p /tmp/m
check mount mount "/dev/$(disk_of 1)" /tmp/m
head -c 8M /dev/urandom >/tmp/m/file; sum=$(sha256sum </tmp/m/file)
check "fstrim" fstrim /tmp/m
umount /tmp/m; mount "/dev/$(disk_of 1)" /tmp/m
[[ $(sha256sum </tmp/m/file) = "$sum" ]] && ok "a file is what it was" || bad "a file is what it was"
umount /tmp/m

step "system calls of $CALLS reads, one at a time"
is_traced() { ! grep -qE '^TracerPid:[[:space:]]+0$' /proc/"$lunette"/task/*/status 2>/dev/null; }
calls() { # LUN: the calls that lunette makes meanwhile, but those that wait and (read) empty what woke it: time, not IO, makes them
  strace -c -f -o /tmp/calls -p "$lunette" & local tracer=$!
  until_true 20 is_traced || bad "strace does not attach" >&2
  fio --name=c --filename="/dev/$(disk_of "$1")" --direct=1 --ioengine=psync --rw=randread --bs=4k --number_ios="$CALLS" --size=24m --io_size=1g --output=/dev/null ||
    bad "fio" >&2
  kill -INT "$tracer"; wait "$tracer"
  cp /tmp/calls "/out/calls.$1"
  # Nor what threads make as they begin and end: some come each 10 s.
  awk '$NF !~ /^(epoll_p?wait|ppoll|futex|restart_syscall|read|total|clone3?|exit|gettid|mmap|munmap|mprotect|madvise|prctl|rseq|rt_sigprocmask|sched_getaffinity|set_robust_list|sigaltstack)$/ && $4 ~ /^[0-9]+$/ { n += $4 } END { print n + 0 }' /tmp/calls
}
if [[ $WORLD = iommu48 ]]; then
  null=$(calls 3) nvme=$(calls 0)
  echo "calls: null disk $null, namespace $nvme"
  # A call in ten reads would be 5 %. What comes and goes besides, on a busy machine, has been 1.6 %.
  ((null > CALLS && nvme > CALLS && (nvme - null) * 100 < 3 * null)) && ok "the namespace costs no more" || bad "the namespace costs more"
fi

step "a controller that stops answering"
rpc bdev_nvme_detach_controller '{"name":"B"}' >/dev/null || die detach
rpc bdev_nvme_attach_controller "{\"name\":\"B\",\"trtype\":\"PCIe\",\"traddr\":\"$SECOND\",\"lunette_timeout_sec\":1}" >/dev/null || die attach
rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"Bn1\",\"lun_id\":4}" >/dev/null || die "no LUN 4"
scan
until_true 20 disk_of 4 >/dev/null || die "no disk at LUN 4"
loaded 4 & load=$!
sleep 1
echo "now stall it"
until_true 60 grep -qE 'made anew|is reset' /out/lunette.log && ok "its queue is taken away, or it is reset" || bad "it is waited for: $(tail -5 /out/lunette.log)"
check "others go on" verified 0 8m
echo "now release it"
touch /tmp/enough.4
wait "$load" && ok "what was stalled went on and is right" || bad "what was stalled went on and is right"

step "two functions of one device, which no IOMMU tells apart"
"$setup" bind "$FOURTH" "$FIFTH" >/dev/null || die "bind $FOURTH $FIFTH"
group_of() { readlink "/sys/bus/pci/devices/$1/iommu_group"; }
if [[ $WORLD != bare ]]; then
  [[ $(group_of "$FOURTH") = $(group_of "$FIFTH") ]] && ok "they are in one group" || bad "they are in one group"
fi
try "attach one" 0 Dn1 -- attach D "$FOURTH"
try "attach it under another name" 1 "the controller at $FOURTH is D's already" -- attach X "$FOURTH"
check "bdev_nvme_set_hotplug" rpc bdev_nvme_set_hotplug '{"enable":true,"period_us":200000}'
has_hot() { rpc bdev_get_bdevs '{"name":"HotInNvme0n1"}' >/dev/null 2>&1; }
until_true 20 has_hot && ok "the other comes by itself" || bad "the other comes by itself"
rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"Dn1\",\"lun_id\":6}" >/dev/null || die "no LUN 6"
rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"HotInNvme0n1\",\"lun_id\":7}" >/dev/null || die "no LUN 7"
scan
until_true 20 has_disk 6 && until_true 20 has_disk 7 || die "no disks at LUN 6 and 7"
loaded 6 & load=$!
check "one of them" verified 7 16m
check "is given back" rpc bdev_nvme_detach_controller '{"name":"HotInNvme0"}'
touch /tmp/enough.6
wait "$load" && ok "the other goes on" || bad "the other goes on"
check "nothing comes by itself any more" rpc bdev_nvme_set_hotplug '{"enable":false}'

if [[ $WORLD != bare ]]; then
  step "removed under IO"
  third=$(basename "$(dirname "$(compgen -G "/sys/bus/pci/devices/$PORT/*/class")")")
  "$setup" bind "$third" >/dev/null || die "bind $third"
  attach C "$third" >/dev/null || die "attach $third"
  rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"Cn1\",\"lun_id\":5}" >/dev/null || die "no LUN 5"
  scan
  until_true 20 disk_of 5 >/dev/null || die "no disk at LUN 5"
  loaded 5 >/dev/null 2>&1 & load=$!
  sleep 1
  echo "now remove it"
  is_gone() { [[ ! -e /sys/bus/pci/devices/$third ]]; }
  until_true 30 is_gone && ok "the kernel has removed it" || bad "the kernel has removed it"
  wait "$load" && bad "IO went on" || ok "IO ends"
  check "others go on" verified 0 8m
  is_ready() { rpc bdev_get_bdevs '{"name":"Cn1"}' | grep -qE '"num_blocks": ?[1-9]'; }
  is_ready && bad "its disk is ready" || ok "its disk is not ready"
  try "its call stays in the configuration" 0 "\"traddr\": ?\"$third\"" -- rpc lunette_get_config
  try "and its LUN" 0 '"bdev_name": ?"Cn1"' -- rpc lunette_get_config

  step "it comes back"
  echo "now add it"
  is_back() { [[ -e /sys/bus/pci/devices/$third ]]; }
  until_true 30 is_back && ok "the kernel has it again" || bad "the kernel has it again"
  "$setup" bind "$third" >/dev/null || die "bind $third"
  until_true 20 is_ready && ok "it is attached by itself, and its disk is ready" || bad "it is attached by itself, and its disk is ready"
  check "bdev_nvme_set_hotplug again" rpc bdev_nvme_set_hotplug '{"enable":true,"period_us":200000}'
  rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"Cn1\",\"lun_id\":8}" >/dev/null || die "no LUN 8"
  scan
  until_true 20 has_disk 8 || die "no disk at LUN 8"
  check "it works" verified 8 8m
  check "detached" rpc bdev_nvme_detach_controller '{"name":"C"}'
  sleep 1
  try "it is left alone" 1 'there is no controller' -- rpc bdev_nvme_get_controllers '{"name":"C"}'
  try "there is no other for it" 1 'there is no controller' -- rpc bdev_nvme_get_controllers '{"name":"HotInNvme0"}'
fi

step "killed, and started again"
verified 0 24m >/dev/null 2>&1 & load=$!
sleep 1
kill -9 "$lunette"; wait "$lunette" 2>/dev/null
start
serve "$IQN" An1 An2
wait "$load" && ok "the initiator went on" || bad "the initiator went on"

step "given back under IO"
fio --name=r --filename="/dev/$(disk_of 1)" --direct=1 --ioengine=libaio --rw=randread --bs=4k --iodepth=8 --size=24m --runtime=120 --time_based --output=/dev/null >/dev/null 2>&1 & load=$!
sleep 1
check "bdev_nvme_detach_controller" rpc bdev_nvme_detach_controller '{"name":"A"}'
wait "$load" && bad "reads went on" || ok "reads end"
try "none is left" 0 '^\[\]$' -- rpc bdev_nvme_get_controllers
check "it can be taken again" attach A "$FIRST"
logout "$IQN" "$PORTAL" >/dev/null
stop_lunette
try "it was shut down in order" 0 'LUNETTEA' -- "$SHARE/lunette" nvme probe $unsafe "$FIRST"

step "a LUN by the README's five commands"
"$setup" reset "$FIRST" >/dev/null || die "reset $FIRST"
try "list" 0 "^$FIRST .* nvme " -- "$SHARE/lunette" nvme list
check "hugepages" "$setup" hugepages 160
try "bind" 0 "^$FIRST: nvme -> " -- "$setup" bind "$FIRST"
"$SHARE/lunette" serve -m 0,1 -r "$socket" ${unsafe:+$unsafe --mem-size 128} >>/out/lunette.log 2>&1 & lunette=$!
LUNETTE=$SHARE/lunette try "nvme-disk.sh" 0 Nvme0n1 -- "$SHARE/nvme-disk.sh" "$socket" "$FIRST"
login "$IQN" "$PORTAL" >/dev/null || die login
wait_disk "$IQN" 1 >/dev/null || die "no disk"
check "it works" verified 0 8m
logout "$IQN" "$PORTAL" >/dev/null
stop_lunette
# QEMU keeps the processor that deletes a queue until what it delays there has ended: a soft lockup, and none of ours.
if dmesg | grep -vE '(soft|workqueue) lockup' | grep -E 'DMAR:.*fault|BUG:|Oops'; then bad "the kernel complains"; else ok "the kernel does not complain"; fi
finish
