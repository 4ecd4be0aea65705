# Runs in the guest: what happens to disks in use, seen by the guest's initiator; lunette is in the guest, too.
#   LUN 0: a file that other things must not disturb; LUN 1: a file that grows; LUN 2: on dm-flakey, which fails
#   ROUNDS: how often a LUN comes and goes under IO
. lablib.sh
IQN=iqn.2026-11.io.lunette:disks PORTAL=127.0.0.1:3260
modprobe -a dm_mod dm_flakey || die "no dm-flakey"
flaky_drive=$(drive labflaky) || exit 1
mkdir -p /tmp/d /tmp/m; mount "$(drive labdata)" /tmp/d || die mount
sectors=$(blockdev --getsz "$flaky_drive")
flaky=$(mapped flaky "0 $sectors linear $flaky_drive 0") || die "$flaky"
becomes() { # TABLE: what is below dm-flakey from now on
  dmsetup suspend --nolockfs --noudevsync flaky && dmsetup load flaky --table "$1" && dmsetup resume --noudevrules --noudevsync flaky || die "dmsetup: $1"
}
working="0 $sectors linear $flaky_drive 0" broken="0 $sectors flakey $flaky_drive 0 0 3600"
read_only_works="$broken 1 error_writes"

start_lunette
file() { # NAME MIB
  rpc bdev_aio_create "{\"name\":\"$1\",\"filename\":\"/tmp/d/$1.img\",\"lunette_create_size\":$(($2 << 20)),\"block_size\":512}" >/dev/null || die "no $1"
}
file steady 40; file grows 64
add_flaky() { rpc bdev_aio_create "{\"name\":\"flaky\",\"filename\":\"$flaky\"}" >/dev/null || die "no flaky"; }
add_flaky
serve "$IQN" steady grows flaky
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
wait_disk "$IQN" 3 >/dev/null || die "no disks"
steady=$(disk_of 0) grows=$(disk_of 1) broke=$(disk_of 2)
step "steady $steady, grows $grows, flaky $broke"

# --- what must not be disturbed: runs until the end
steady_load() {
  local run=0
  while [[ ! -e /tmp/enough ]]; do
    fio --name=s --filename="/dev/$steady" --direct=1 --ioengine=libaio --rw=randwrite --bs=8k --iodepth=4 --size=8m --randseed="$((++run))" \
      --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/tmp/steady.out 2>&1 || return 1
  done
  echo "$run" >/tmp/steady.runs
}
steady_load & load=$!

# --- resize under a mounted file system
step resize
mark
mkfs.ext4 -q "/dev/$grows" || die mkfs
mount "/dev/$grows" /tmp/m || die mount
head -c 24M /dev/urandom >/tmp/m/before; sync /tmp/m/before
sum=$(sha256sum </tmp/m/before)
size() { cat "/sys/block/$grows/size"; }
is_size() { [[ $(size) = "$1" ]]; }
write_meanwhile() {
  local number=0
  while [[ ! -e /tmp/resized ]]; do
    head -c 64K /dev/urandom >"/tmp/m/meanwhile$((number % 8))" && sync "/tmp/m/meanwhile$((number % 8))" || return 1
    number=$((number + 1))
  done
  echo "$number" >/tmp/meanwhile
}
write_meanwhile & writer=$!
truncate -s 128M /tmp/d/grows.img
check "bdev_aio_rescan" rpc bdev_aio_rescan '{"name":"grows"}'
kernel_says "the initiator is told" "Capacity data has changed"
scan
if until_true 10 is_size 262144; then ok "the kernel sees 128 MiB"; else bad "the kernel sees $(size) sectors"; fi
check "resize2fs while it is mounted and written" resize2fs "/dev/$grows"
touch /tmp/resized
if wait "$writer"; then ok "the $(</tmp/meanwhile) writes meanwhile"; else bad "a write meanwhile failed"; fi
step "fill"
check "what would not have fitted before" dd if=/dev/urandom of=/tmp/m/after bs=1M count=60 conv=fsync status=none
after=$(sha256sum </tmp/m/after)
umount /tmp/m || die umount
step "look at it"
check "e2fsck" e2fsck -fn "/dev/$grows"
mount "/dev/$grows" /tmp/m || die remount
if [[ $(sha256sum </tmp/m/before) = "$sum" && $(sha256sum </tmp/m/after) = "$after" ]]; then ok "the files are as written"; else bad "a file differs"; fi
umount /tmp/m
if says 'I/O error|Sense Key : (Medium|Hardware|Aborted)'; then bad "there were errors"; dmesg | tail -5; else ok "no errors"; fi

# --- LUNs that come and go under IO
for ((round = 1; round <= ROUNDS; round++)); do
  step "comes and goes $round"
  mark
  rpc bdev_malloc_create '{"name":"comes","num_blocks":65536,"block_size":512}' >/dev/null || die "no RAM disk"
  check "a LUN is added" rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"comes\",\"lun_id\":9}"
  # By a unit attention; or by an asynchronous event, for which iscsid looks for LUNs: it may be the first, and takes the other away.
  kernel_says "the initiator is told" "LUN assignments on this target have changed|0:0:0:9: Direct-Access"
  scan
  if until_true 10 has_disk 9; then ok "its disk is there"; else bad "no disk for LUN 9"; break; fi
  comes=$(disk_of 9)
  fio --name=c --filename="/dev/$comes" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=8 --size=16m --time_based --runtime=60 \
    --minimal >/tmp/comes.out 2>&1 & doomed=$!
  is_written() { (($(written "$comes") > 200)); }
  if until_true 30 is_written; then ok "it is written"; else bad "no IO on LUN 9"; fi
  check "it is removed under IO" rpc lunette_target_node_remove_lun "{\"name\":\"$IQN\",\"lun_id\":9}"
  ended() { ! kill -0 "$doomed" 2>/dev/null; }
  if until_true 30 ended; then ok "its IO ends at once"; else bad "its IO goes on or hangs"; kill -9 "$doomed"; fi
  if wait "$doomed"; then bad "its IO ended well"; else ok "and with errors"; fi
  kernel_says "the kernel says why" "Add. Sense: Logical unit not supported" \
    dd if="/dev/$comes" of=/dev/null bs=4096 count=1 iflag=direct
  check "the bdev can go" rpc bdev_malloc_delete '{"name":"comes"}'
  echo 1 >"/sys/block/$comes/device/delete"
done

# --- a device that fails
step "flaky"
disk=/dev/$broke
get() { dd if="$disk" of=/dev/null bs=4096 skip="$1" count=1 iflag=direct status=none; }
put() { dd if=/dev/urandom of="$disk" bs=4096 seek="$1" count=1 oflag=direct status=none; }
flush() { sg_sync "$disk"; }
works() { # NAME
  if get 10 && put 11 && flush; then ok "$1"; else bad "$1"; fi
}
fails() { # NAME COMMAND...
  local name=$1; shift
  if "$@" 2>/tmp/said; then bad "$name: it went well"; else ok "$name"; fi
}
works "reads, writes and flushes"
mark
becomes "$broken"
fails "a read fails" get 20
kernel_says "as MEDIUM ERROR" 'Sense Key : Medium Error \[current\]' get 20
kernel_says "UNRECOVERED READ ERROR" 'Add. Sense: Unrecovered read error' get 20
mark
fails "a write fails" put 20
kernel_says "as MEDIUM ERROR" 'Sense Key : Medium Error \[current\]' put 20
kernel_says "WRITE ERROR" 'Add. Sense: Write error' put 20
becomes "$working"
works "all is well when the device is"
mark
becomes "$read_only_works"
if get 30; then ok "reads go on where only writes fail"; else bad "a read fails"; fi
fails "a write fails" put 30
kernel_says "WRITE ERROR" 'Add. Sense: Write error' put 30
try "a flush fails" 3 -- sg_sync "$disk"
becomes "$working"
fails "a write after a failed flush fails, though the device works again" put 31
fails "and a flush" flush
if get 31; then ok "reads go on"; else bad "a read fails"; fi
check "the bdev is made anew" rpc bdev_aio_delete '{"name":"flaky"}'
add_flaky
check "and its LUN" rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"flaky\",\"lun_id\":2}"
echo 1 >"/sys/block/$broke/device/delete"
scan
if until_true 10 has_disk 2; then disk=/dev/$(disk_of 2); works "it is a disk again"; else bad "no disk for LUN 2"; fi

touch /tmp/enough
if wait "$load"; then ok "the disk beside was not disturbed: $(</tmp/steady.runs) times written and verified"; else bad "the disk beside: $(tail -3 /tmp/steady.out)"; fi
iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
