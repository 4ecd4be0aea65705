# Runs in the guest: sg3_utils through the guest's initiator at LUNs of lunette in the guest: exit codes and key lines.
#   LUN 0: a file of 64 MiB with blocks of 512 bytes; LUN 1: a RAM disk of 32 MiB with blocks of 4096
. lablib.sh
IQN=iqn.2026-11.io.lunette:sg3 PORTAL=127.0.0.1:3260
# Exit codes of sg3_utils (sg_lib.h)
ILLEGAL=5 ATTENTION=6 INVALID_OPCODE=9 MISCOMPARE=14 CONFLICT=24 LBA_OUT_OF_RANGE=22
mkdir -p /tmp/d; mount "$(drive labdata)" /tmp/d || die mount
start_lunette --state /tmp/d/state.json
rpc bdev_aio_create '{"name":"file","filename":"/tmp/d/file.img","lunette_create_size":67108864,"block_size":512}' >/dev/null || die "no file"
rpc bdev_malloc_create '{"name":"ram","num_blocks":8192,"block_size":4096}' >/dev/null || die "no RAM disk"
serve "$IQN" file ram
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
disks=$(wait_disk "$IQN" 2) || die "no disks"
for disk in $disks; do
  case $(<"/sys/block/$disk/size") in 131072) file=/dev/$disk ;; 65536) ram=/dev/$disk ;; *) die "$disk: $(<"/sys/block/$disk/size")" ;; esac
done
step "file $file, RAM $ram"

# --- what it is
for disk in "$file" "$ram"; do
  try "$disk: sg_inq" 0 'Peripheral device type: disk' 'Vendor identification: LUNETTE' 'CmdQue=1' -- sg_inq "$disk"
  try "$disk: sg_vpd, the list" 0 'Supported VPD pages' 'Device identification' 'Block limits' 'Logical block provisioning' -- sg_vpd "$disk"
  pages=$(sg_vpd -H -p sv "$disk" | sed -nE 's/^ *[0-9a-f]+ +(([0-9a-f]{2} +)+).*/\1/p' | tr -s ' \n' ' ' | cut -d' ' -f5-)
  [[ $pages = 00\ 80\ 83* ]] || bad "$disk: VPD pages $pages"
  for page in $pages; do
    check "$disk: sg_vpd -p 0x$page" sg_vpd -p "0x$page" "$disk"
    [[ $disk = "$ram" ]] || check "$disk: sg_inq -p 0x$page" sg_inq -p "0x$page" "$disk"
  done
  try "$disk: serial number" 0 'Unit serial number: [0-9a-f-]+' -- sg_vpd -p sn "$disk"
  try "$disk: names" 0 'Addressed logical unit' 'designator type: (NAA|EUI-64|UUID)' 'Target port' 'designator type: SCSI name string' -- sg_vpd -p di "$disk"
  try "$disk: extended INQUIRY" 0 'SIMPSUP=1' -- sg_vpd -p ei "$disk"
  try "$disk: limits" 0 'Maximum compare and write length: [1-9]' 'Maximum unmap LBA count: [1-9]' 'Maximum transfer length: [1-9]' -- sg_vpd -p bl "$disk"
  try "$disk: characteristics" 0 'Non-rotating|otation rate' -- sg_vpd -p bdc "$disk"
  try "$disk: provisioning" 0 'Unmap command supported \(LBPU\): 1' 'Write same \(16\).*LBPWS\): 1' -- sg_vpd -p lbpv "$disk"
  try "$disk: no such page" $ILLEGAL 'Invalid field in cdb' -- sg_raw -r 96 "$disk" 12 01 77 00 60 00
  try "$disk: sg_luns" 0 'Lun list length = 16 .*2 lun entr' '0000000000000000' '0001000000000000' -- sg_luns "$disk"
  try "$disk: sg_opcodes" 0 'Compare and write' 'Unmap' 'Write same\(16\)' 'Persistent reserve out' 'Synchronize cache\(16\)' -- sg_opcodes "$disk"
  try "$disk: sg_opcodes of one" 0 'Command is supported' -- sg_opcodes --opcode=0x89 "$disk"
  try "$disk: sg_opcodes of none" 0 'Command is NOT supported' -- sg_opcodes --opcode=0x0d "$disk"
  try "$disk: sg_opcodes of functions" 0 'Abort task' 'Logical unit reset' -- sg_opcodes --tmf "$disk"
  try "$disk: sg_modes" 0 'Caching' 'Control' 'Informational exceptions' 'WP=0' 'DpoFua=1' -- sg_modes -a "$disk"
  try "$disk: sg_modes, no such page" $ILLEGAL -- sg_modes -p 0x0f "$disk"
  try "$disk: sg_rtpg" 0 'target port group asymmetric access state' -- sg_rtpg "$disk"
  try "$disk: sg_get_lba_status" 0 -- sg_get_lba_status "$disk"
  try "$disk: sg_logs, the list" 0 'Supported log pages' 'Temperature' 'Informational [Ee]xceptions' -- sg_logs -l "$disk"
  try "$disk: sg_logs, temperature" 0 'not available' -- sg_logs -p 0x0d "$disk"
  try "$disk: sg_logs, statistics" 0 'number of read commands = [1-9]' 'number of logical blocks transmitted = [1-9]' -- sg_logs -p 0x19 "$disk"
  try "$disk: sg_logs, all" 0 'IE asc = 0x0' -- sg_logs -a "$disk"
  try "$disk: sg_logs, no such page" $ILLEGAL -- sg_logs -p 0x11 "$disk"
  check "$disk: sg_senddiag, a self-test" sg_senddiag --test "$disk"
  try "$disk: sg_senddiag, the pages" 0 'Supported diagnostic pages' -- sg_senddiag --list "$disk"
  check "$disk: sg_test_rwbuf" sg_test_rwbuf --size=4096 --times=3 "$disk"
  try "$disk: sg_test_rwbuf, the size" 0 '4096' -- sg_test_rwbuf --quick --size=4096 "$disk"
  try "$disk: sg_copy_results" 0 'Maximum target descriptor count: 16' 'Maximum segment descriptor count: 64' -- sg_copy_results --params "$disk"
  try "$disk: third-party copies" 0 'Extended copy\(LID1\)' 'Block [Dd]evice ROD' -- sg_vpd -p tpc "$disk"
  check "$disk: sg_timestamp, set" sg_timestamp --seconds=1700000000 "$disk"
  try "$disk: sg_timestamp" 0 '^17000000[0-9]+' -- sg_timestamp "$disk"
  check "$disk: sg_ident, set" bash -c "printf shelf | sg_ident --set $disk"
  try "$disk: sg_ident" 0 'shelf' -- sg_ident --ascii "$disk"
  check "$disk: sg_turs" sg_turs "$disk"
  check "$disk: sg_requests" sg_requests "$disk"
  check "$disk: sg_start" sg_start --start "$disk"
  check "$disk: sg_prevent" sg_prevent --allow "$disk"
done
try "sg_readcap of the file" 0 'Last LBA=131071' 'Logical block length=512' -- sg_readcap "$file"
try "sg_readcap -l of the file" 0 'lbpme=1' 'lbprz=1' 'Last LBA=131071' -- sg_readcap -l "$file"
try "sg_readcap -l of the RAM disk" 0 'Last LBA=8191' 'Logical block length=4096' -- sg_readcap -l "$ram"

# --- what it does; each on both disks
for disk in "$file" "$ram"; do
  bytes=512 last=131071
  [[ $disk = "$file" ]] || bytes=4096 last=8191
  block() { head -c "$bytes" /dev/zero | tr '\0' "$1"; } # CHARACTER
  at() { dd if="$disk" bs="$bytes" skip="$1" count=1 iflag=direct status=none; } # LBA
  put() { dd of="$disk" bs="$bytes" seek="$1" oflag=direct status=none; }        # LBA
  holds() { cmp -s <(at "$1") <(block "$2") && ok "$disk: block $1 holds $2" || bad "$disk: block $1 does not hold $2"; } # LBA CHARACTER
  block a >/tmp/a; block b >/tmp/b; cat /tmp/a /tmp/b >/tmp/ab
  for lba in 0 100 101 102 200 207 208; do put "$lba" </tmp/a; done

  check "$disk: sg_verify" sg_verify --lba=100 --count=3 "$disk"
  check "$disk: sg_verify of data, the same" sg_verify --lba=100 --count=1 --ndo="$bytes" --in=/tmp/a "$disk"
  try "$disk: sg_verify of data, others" $MISCOMPARE -- sg_verify --lba=100 --count=1 --ndo="$bytes" --in=/tmp/b "$disk"
  try "$disk: sg_verify behind the end" $LBA_OUT_OF_RANGE -- sg_verify --16 --lba=$((last + 1)) --count=1 "$disk"
  check "$disk: sg_verify of the last block" sg_verify --16 --lba=$last --count=1 "$disk"

  check "$disk: sg_compare_and_write, the same" sg_compare_and_write --in=/tmp/ab --lba=101 --num=1 --xferlen=$((2 * bytes)) "$disk"
  holds 101 b
  try "$disk: sg_compare_and_write, another" $MISCOMPARE -- sg_compare_and_write --in=/tmp/ab --lba=101 --num=1 --xferlen=$((2 * bytes)) "$disk"
  holds 101 b
  holds 100 a
  holds 102 a

  check "$disk: sg_write_same" sg_write_same --16 --in=/tmp/b --xferlen="$bytes" --lba=200 --num=8 "$disk"
  holds 200 b
  holds 207 b
  holds 208 a
  check "$disk: sg_write_same (10)" sg_write_same --10 --in=/tmp/a --xferlen="$bytes" --lba=207 --num=1 "$disk"
  holds 207 a
  check "$disk: sg_write_same, unmapping" sg_write_same --16 --unmap --in=/dev/zero --xferlen="$bytes" --lba=200 --num=4 "$disk"
  holds 200 '\0'
  holds 204 b
  check "$disk: sg_write_same without data" sg_write_same --16 --ndob --lba=204 --num=2 "$disk"
  holds 205 '\0'
  try "$disk: sg_write_same behind the end" $LBA_OUT_OF_RANGE -- sg_write_same --16 --in=/tmp/a --xferlen="$bytes" --lba=$last --num=2 "$disk"

  check "$disk: sg_unmap" sg_unmap --lba=96 --num=8 "$disk"
  holds 100 '\0'
  holds 102 '\0'
  holds 208 a
  check "$disk: sg_write_verify" sg_write_verify --16 --lba=300 --num=1 --ilen="$bytes" --in=/tmp/b "$disk"
  holds 300 b
  check "$disk: sg_sync" sg_sync "$disk"
  check "$disk: sg_sync of a range" sg_sync --lba=100 --count=8 "$disk"
  check "$disk: sg_sync --16" sg_sync --16 "$disk"
  try "$disk: sg_reset" 0 -- sg_reset --device "$disk"
  try "$disk: the reset is told" $ATTENTION -- sg_turs "$disk"
  check "$disk: once" sg_turs "$disk"
done

# --- copies, atomic writes, chores
disk=$file bytes=512
block c >/tmp/c
put 100 </tmp/a
sg=/dev/$(ls "/sys/block/${file#/dev/}/device/scsi_generic") # sg_xcopy wants that one
check "sg_xcopy within a LUN" sg_xcopy "if=$sg" "of=$sg" bs=512 skip=100 seek=600 count=1
holds 600 a
try "sg_write_x, no atomic writes on a file" $INVALID_OPCODE -- sg_write_x --atomic=0 --16 --in=/tmp/a --lba=700 --num=1 "$file"
disk=$ram bytes=4096
block b >/tmp/b
check "sg_write_x, an atomic write" sg_write_x --atomic=0 --16 --in=/tmp/b --lba=700 --num=1 "$ram"
holds 700 b
check "sg_sanitize, block erase" sg_sanitize --block --quick --wait "$ram"
holds 700 '\0'
try "sg_sanitize, block erase of a file" $ILLEGAL -- sg_sanitize --block --quick --wait "$file"
try "sg_sanitize, cryptographic erase" $ILLEGAL -- sg_sanitize --crypto --quick --wait "$ram"
check "sg_sanitize, overwrite" sg_sanitize --overwrite --pattern=/tmp/b --ipl=4096 --quick --wait "$ram"
holds 0 b
holds 8191 b
check "sg_format" sg_format -FFF --quick --wait "$ram"
holds 0 '\0'
holds 8191 '\0'
disk=$file bytes=512

# --- the cache, by the kernel's MODE SELECT
cache=$(echo "/sys/block/${file#/dev/}/device/scsi_disk/"*/cache_type)
try "sg_modes: the cache is on" 0 '^ 00 +[08]8 12 04' -- sg_modes -p 8 "$file"
[[ $(<"$cache") = "write back" ]] && ok "the kernel sees a write-back cache" || bad "cache_type is $(<"$cache")"
echo "write through" >"$cache"
[[ $(<"$cache") = "write through" ]] && ok "the cache is switched off" || bad "cache_type is $(<"$cache")"
try "sg_modes: the cache is off" 0 '^ 00 +[08]8 12 00' -- sg_modes -p 8 "$file"
echo "write back" >"$cache"
[[ $(<"$cache") = "write back" ]] && ok "and on" || bad "cache_type is $(<"$cache")"

# --- thin provisioning: what there is, a threshold, the end of it
try "sg_vpd: threshold sets" 0 'Threshold exponent: 11' -- sg_vpd -p lbpv "$file"
try "sg_logs: resources of the file" 0 'Available LBA mapping' 'Used LBA mapping' 'Scope: dedicated' -- sg_logs -p 0xc "$file"
try "sg_logs: a RAM disk cannot tell" $ILLEGAL -- sg_logs -p 0xc "$ram"
threshold=5c,02,00,1c,00,00,00,00,00,00,00,00,00,00,00,00,00,01,00,00,00,00,00,00,81,02,00,00,00,00,00,01
if [[ $(stat -f -c %T /tmp/d) = ext2/ext3 ]]; then # what stat calls ext4
  try "sg_vpd: the file has anchors" 0 'ANC_SUP\): 1' -- sg_vpd -p lbpv "$file"
  check "sg_unmap, anchoring" sg_unmap --anchor --lba=81920 --num=64 "$file"
  check "sg_write_same, anchoring" sg_write_same --16 --unmap --anchor --in=/dev/zero --xferlen=512 --lba=81984 --num=64 "$file"
  try "sg_get_lba_status: both are anchored" 0 'LBA: 0x0*14000 +blocks: +128 +anchored' -- sg_get_lba_status --lba=81920 "$file"
  check "sg_unmap, of half of it" sg_unmap --lba=81920 --num=64 "$file"
  try "sg_get_lba_status: it is deallocated" 0 'LBA: 0x0*14000 +blocks: +64 +deallocated' -- sg_get_lba_status --lba=81920 "$file"
else
  bad "the file is on $(stat -f -c %T /tmp/d), which has no anchors"
fi
try "sg_vpd: a RAM disk has no anchors" 0 'ANC_SUP\): 0' -- sg_vpd -p lbpv "$ram"
try "sg_unmap, anchoring, of a RAM disk" $ILLEGAL -- sg_unmap --anchor --lba=96 --num=8 "$ram"
dd if=/dev/urandom of="$file" bs=1M seek=8 count=4 oflag=direct conv=fsync status=none
mark
check "sg_wr_mode: a threshold of 1 MiB used" sg_wr_mode -p 0x1c,2 -c "$threshold" "$file"
kernel_says "the kernel is warned, as it is met" 'thin provisioning soft threshold' sg_turs "$file"
try "sg_modes: it is set" 0 '81 02 00 00 00 00 00 01' -- sg_modes -p 0x1c,2 "$file"
mkdir -p /tmp/small; mount -t tmpfs -o size=8m none /tmp/small || die "no tmpfs"
rpc bdev_aio_create '{"name":"full","filename":"/tmp/small/full.img","lunette_create_size":67108864,"block_size":512}' >/dev/null || die "no full"
serve "$IQN.full" full
discover "$PORTAL" >/dev/null || die discovery
login "$IQN.full" "$PORTAL" >/dev/null || die login
full=/dev/$(wait_disk "$IQN.full") || die "no full disk"
try "a file system that is full" 1 'No space left on device' -- dd if=/dev/urandom of="$full" bs=1M count=32 oflag=direct
check "what was written can be read" dd if="$full" of=/dev/null bs=1M count=7 iflag=direct status=none
check "some of it is given back" blkdiscard -o 0 -l 4194304 "$full"
check "and used again" dd if=/dev/urandom of="$full" bs=1M seek=16 count=3 oflag=direct status=none
logout "$IQN.full" "$PORTAL" >/dev/null || bad logout

# --- reservations: a second session with a name of its own
iscsiadm -m iface -I second -o new >/dev/null && iscsiadm -m iface -I second -o update -n iface.initiatorname -v iqn.2004-10.com.example:second >/dev/null &&
  iscsiadm -m iface -I second -o update -n iface.transport_name -v tcp >/dev/null &&
  iscsiadm -m node -T "$IQN" -p "$PORTAL" -I second -o new >/dev/null && iscsiadm -m node -T "$IQN" -p "$PORTAL" -I second --login >/dev/null ||
  die "no second session"
other=
for disk in $(wait_disk "$IQN" 4); do
  [[ /dev/$disk = "$file" || $(<"/sys/block/$disk/size") != 131072 ]] || other=/dev/$disk
done
[[ -n $other ]] || die "no second session's disk"
sg_turs "$other" >/dev/null; sg_turs "$file" >/dev/null # tell what there is to tell
pr_in="sg_persist --in" pr_out="sg_persist --out" # two words each
try "sg_persist: capabilities" 0 'Write Exclusive: 1' 'Exclusive Access: 1' -- $pr_in -c "$file"
try "sg_persist: no keys" 0 'there are NO registered reservation keys' -- $pr_in -k "$file"
try "sg_persist: no reservation" 0 'there is NO reservation held' -- $pr_in -r "$file"
check "sg_persist: register" $pr_out --register --param-sark=0xa1 "$file"
try "sg_persist: the key" 0 '0xa1' -- $pr_in -k "$other"
try "sg_persist: a wrong key" $CONFLICT -- $pr_out --reserve --param-rk=0xff --prout-type=1 "$file"
check "sg_persist: reserve" $pr_out --reserve --param-rk=0xa1 --prout-type=1 "$file"
try "sg_persist: the reservation" 0 'Key=0xa1' 'Write Exclusive' -- $pr_in -r "$other"
try "sg_persist: full status" 0 'Key=0xa1' 'Reservation holder' 'example:lab-guest' -- $pr_in -s "$other"
check "the holder writes" sg_write_same --16 --in=/tmp/a --xferlen=512 --lba=400 --num=1 "$file"
block a >/tmp/a
try "the other does not" $CONFLICT -- sg_write_same --16 --in=/dev/zero --xferlen=512 --lba=400 --num=1 "$other"
check "the other reads" dd if="$other" of=/dev/null bs=4096 count=1 iflag=direct status=none
try "the other cannot clear" $CONFLICT -- $pr_out --clear --param-rk=0xa1 "$other"
check "sg_persist: the other registers" $pr_out --register --param-sark=0xb2 "$other"
check "sg_persist: and preempts" $pr_out --preempt --param-rk=0xb2 --param-sark=0xa1 --prout-type=1 "$other"
try "sg_persist: it is the other's" 0 'Key=0xb2' 'Write Exclusive' -- $pr_in -r "$other"
try "the former holder is told" $ATTENTION -- sg_turs "$file"
try "and does not write" $CONFLICT -- sg_write_same --16 --in=/dev/zero --xferlen=512 --lba=400 --num=1 "$file"
check "sg_persist: release" $pr_out --release --param-rk=0xb2 --prout-type=1 "$other"
try "sg_persist: it is released" 0 'there is NO reservation held' -- $pr_in -r "$other"
check "sg_persist: clear" $pr_out --clear --param-rk=0xb2 "$other"
try "sg_persist: all is gone" 0 'there are NO registered reservation keys' -- $pr_in -k "$other"
check "everybody writes again" sg_write_same --16 --in=/dev/zero --xferlen=512 --lba=400 --num=1 "$file"

# --- every other type: what the other may do, who is not registered
check "sg_persist: register, whatever was there" $pr_out --register-ignore --param-sark=0xa1 "$file"
sg_turs "$other" >/dev/null
while read -r type reads name; do
  check "type $type: reserved" $pr_out --reserve --param-rk=0xa1 --prout-type="$type" "$file"
  try "type $type: it is told" 0 "type: $name\$" -- $pr_in -r "$other"
  try "type $type: the other reads" "$reads" -- sg_verify --lba=400 --count=1 "$other"
  try "type $type: the other does not write" $CONFLICT -- sg_write_same --16 --in=/dev/zero --xferlen=512 --lba=400 --num=1 "$other"
  check "type $type: released" $pr_out --release --param-rk=0xa1 --prout-type="$type" "$file"
done <<END
3 $CONFLICT Exclusive Access
5 0 Write Exclusive, registrants only
6 $CONFLICT Exclusive Access, registrants only
7 0 Write Exclusive, all registrants
8 $CONFLICT Exclusive Access, all registrants
END

# --- preempt and abort, move, registered by another, kept over a loss of power
mine=$($pr_in -s "$file" | grep -oE 'iqn\.[^ ]*,i,0x[0-9a-f]+')
[[ $mine = iqn.*,i,0x* ]] || bad "whose key it is: '$mine'"
check "sg_persist: reserved" $pr_out --reserve --param-rk=0xa1 --prout-type=3 "$file"
check "sg_persist: the other registers" $pr_out --register --param-sark=0xb2 "$other"
check "sg_persist: preempted and aborted" $pr_out --preempt-abort --param-rk=0xb2 --param-sark=0xa1 --prout-type=3 "$other"
try "sg_persist: it is the other's" 0 'Key=0xb2' 'type: Exclusive Access$' -- $pr_in -r "$other"
try "the former holder is told" $ATTENTION -- sg_turs "$file"
try "and does not read" $CONFLICT -- sg_verify --lba=400 --count=1 "$file"
check "sg_persist: moved" $pr_out --register-move --param-rk=0xb2 --param-sark=0xc3 --relative-target-port=1 --transport-id="$mine" "$other"
try "sg_persist: it is the first one's again" 0 'Key=0xc3' 'type: Exclusive Access$' -- $pr_in -r "$other"
check "who reads" sg_verify --lba=400 --count=1 "$file"
check "sg_persist: clear" $pr_out --clear --param-rk=0xc3 "$file"
try "the other is told" $ATTENTION -- sg_turs "$other"
try "sg_persist: nothing is kept" 0 'PTPL_C\): 1' 'PTPL_A\): 0' -- $pr_in -c "$file"
check "sg_persist: both registered by one, and kept" $pr_out --register --param-sark=0xd4 -Z --transport-id="$mine" "$other"
[[ $($pr_in -k "$other" | grep -c 0xd4) = 2 ]] && ok "sg_persist: two keys" || bad "keys: $($pr_in -k "$other")"
try "sg_persist: kept" 0 'PTPL_A\): 1' -- $pr_in -c "$other"
check "who was registered reserves" $pr_out --reserve --param-rk=0xd4 --prout-type=1 "$file"
check "sg_persist: clear" $pr_out --clear --param-rk=0xd4 "$file"

# --- a copy to another LUN, which is there only now
rpc bdev_malloc_create '{"name":"copy","num_blocks":16384,"block_size":512}' >/dev/null &&
  rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"copy\",\"lun_id\":2}" >/dev/null || die "no LUN 2"
iscsiadm -m session -R >/dev/null || bad rescan
copy=
for disk in $(wait_disk "$IQN" 6); do [[ $(<"/sys/block/$disk/size") != 16384 ]] || copy=$disk; done
[[ -n $copy ]] || die "no disk of LUN 2"
disk=$file
put 100 </tmp/c
sg_turs "$file" >/dev/null; sg_turs "/dev/$copy" >/dev/null
check "sg_xcopy to another LUN" sg_xcopy "if=$sg" "of=/dev/$(ls "/sys/block/$copy/device/scsi_generic")" bs=512 skip=100 seek=5 count=1
disk=/dev/$copy
holds 5 c

iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
