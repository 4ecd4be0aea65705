# Runs in the guest: RAM disks of lunette with protection information of types 1 and 2, at the guest's initiator: what sg3_utils finds, what is
# refused, and fio on them, which knows nothing of it. What type 2 checks is asked for with CDBs of 32 bytes.
. lablib.sh
IQN=iqn.2026-11.io.lunette:protect PORTAL=127.0.0.1:3260
ABORTED=11 PROTECTION=40 # exit codes of sg3_utils (sg_lib.h); the latter where the sense is 10h
start_lunette
rpc bdev_malloc_create '{"name":"m","num_blocks":131072,"block_size":512,"md_size":8,"md_interleave":true,"dif_type":1}' >/dev/null || die "no disk"
rpc bdev_malloc_create '{"name":"m2","num_blocks":131072,"block_size":512,"md_size":8,"md_interleave":true,"dif_type":2}' >/dev/null || die "no disk of type 2"
serve "$IQN" m m2
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
wait_disk "$IQN" 2 >/dev/null || die "no disk"
disk=/dev/$(disk_of 0)
try "sg_readcap" 0 'prot_en=1, p_type=0' 'Logical block length=512' -- sg_readcap -l "$disk"
try "sg_inq" 0 '[Pp]rotect=1' -- sg_inq "$disk"
try "sg_vpd ei" 0 'GRD_CHK=1' 'REF_CHK=1' 'SPT=0' -- sg_vpd -p ei "$disk"
try "sg_vpd bl" 0 'Maximum transfer length: 504' -- sg_vpd -p bl "$disk"
printf '%512s' '' | tr ' ' '\377' >/tmp/block
dd if=/tmp/block of="$disk" bs=512 seek=5 oflag=direct status=none || bad "a write that knows nothing of it"
try "the guard, tags 0 and the address" 0 -- sg_raw -r 520 -b -o /tmp/both "$disk" 28 20 00 00 00 05 00 00 01 00
cmp -n 512 /tmp/block /tmp/both && ok "the block" || bad "another block"
tuple=$(tail -c 8 /tmp/both | od -An -tx1 | tr -d ' ')
[[ $tuple = ????000000000005 ]] && ok "its tuple: $tuple" || bad "tuple $tuple"
check "it goes back as it came" sg_raw -s 520 -i /tmp/both "$disk" 2a 20 00 00 00 05 00 00 01 00
try "elsewhere its reference tag is wrong" $PROTECTION 'reference tag check failed' -- sg_raw -s 520 -i /tmp/both "$disk" 2a 20 00 00 00 06 00 00 01 00
{ head -c 511 /tmp/block; printf '\0'; tail -c 8 /tmp/both; } >/tmp/wrong
try "with a byte changed its guard is wrong" $PROTECTION 'guard check failed' -- sg_raw -s 520 -i /tmp/wrong "$disk" 2a 20 00 00 00 05 00 00 01 00
check "unchecked it is written" sg_raw -s 520 -i /tmp/wrong "$disk" 2a 60 00 00 00 05 00 00 01 00
try "sg_verify finds it" $PROTECTION 'guard check failed' -- sg_verify -v --lba=5 --count=1 --vrprotect=1 "$disk"
if dd if="$disk" of=/dev/null bs=512 skip=5 count=1 iflag=direct status=none 2>/dev/null; then bad "a wrong block is read"; else ok "and so does a read"; fi
dd if=/tmp/block of="$disk" bs=512 seek=5 oflag=direct status=none
check "written anew it is right" sg_verify --lba=5 --count=1 --vrprotect=1 "$disk"
check "fio writes and verifies" fio --name=p --filename="$disk" --direct=1 --ioengine=libaio --rw=randwrite --bsrange=512-256k --iodepth=8 --size=16m \
  --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/dev/null
check "and everything belongs to its place" sg_verify --lba=0 --count=131072 --bpc=128 --vrprotect=1 "$disk"

# --- type 2
disk=/dev/$(disk_of 1)
sgd=/dev/$(basename "/sys/block/${disk##*/}/device/scsi_generic/"*)
long() { # ACTION PROTECT LBA TAG -> bytes of a CDB for one block, whose reference tag is to be TAG: READ(32) is 9, VERIFY(32) 10, WRITE(32) 11
  printf '7f 00 00 00 00 00 00 18 00 %02x %02x 00 00 00 00 00 00 00 00 %02x 00 00 00 %02x 00 00 00 00 00 00 00 01' "$1" $(($2 << 5)) "$3" "$4"
}
try "sg_readcap of type 2" 0 'prot_en=1, p_type=1' -- sg_readcap -l "$disk"
try "sg_vpd of type 2" 0 'GRD_CHK=1' 'REF_CHK=1' 'SPT=2' -- sg_vpd -p ei "$disk"
{ cat /tmp/block; tail -c 8 /tmp/both | head -c 4; printf '\0\0\0\143'; } >/tmp/tagged
read -ra cdb <<<"$(long 11 1 5 99)"
check "WRITE(32) with the tag that it says" sg_raw -s 520 -i /tmp/tagged "$sgd" "${cdb[@]}"
read -ra cdb <<<"$(long 9 1 5 99)"
check "READ(32)" sg_raw -r 520 -b -o /tmp/read "$sgd" "${cdb[@]}"
check "it came back" cmp /tmp/tagged /tmp/read
for action in 9 10 11; do
  read -ra cdb <<<"$(long $action 1 5 5)"
  moves=(-r 520); [[ $action != 10 ]] || moves=(); [[ $action != 11 ]] || moves=(-s 520 -i /tmp/tagged)
  try "another tag is refused, action $action" $PROTECTION 'reference tag check failed' -- sg_raw "${moves[@]}" "$sgd" "${cdb[@]}"
done
read -ra cdb <<<"$(long 10 1 5 99)"
check "VERIFY(32)" sg_raw "$sgd" "${cdb[@]}"
# It says that the first tag is to be 0.
{ cat /tmp/block; tail -c 8 /tmp/both | head -c 4; printf '\0\0\0\0'; } >/tmp/first
check "sg_write_same --32" sg_write_same --32 --num=4 --lba=5 --wrprotect=1 --in=/tmp/first --xferlen=520 "$sgd"
read -ra cdb <<<"$(long 9 1 8 3)"
check "the last of its blocks has tag 3" sg_raw -r 520 -b -o /tmp/read "$sgd" "${cdb[@]}"
check "and is the same" cmp -n 512 /tmp/first /tmp/read
try "shorter ones do not take the field" 9 -- sg_raw -r 520 "$sgd" 28 20 00 00 00 05 00 00 01 00 # 9: invalid operation code
check "and go without" cmp -n 512 /tmp/block <(dd if="$disk" bs=512 skip=5 count=1 iflag=direct status=none)
check "fio writes and verifies, type 2" fio --name=p --filename="$disk" --direct=1 --ioengine=libaio --rw=randwrite --bsrange=512-256k --iodepth=8 --size=16m \
  --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/dev/null
iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
