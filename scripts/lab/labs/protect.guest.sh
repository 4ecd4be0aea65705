# Runs in the guest: a RAM disk of lunette with protection information of type 1, at the guest's initiator: what sg3_utils finds, what is
# refused, and a file system and fio on it, which know nothing of it.
. lablib.sh
IQN=iqn.2026-11.io.lunette:protect PORTAL=127.0.0.1:3260
ABORTED=11 PROTECTION=40 # exit codes of sg3_utils (sg_lib.h); the latter where the sense is 10h
start_lunette
rpc bdev_malloc_create '{"name":"m","num_blocks":131072,"block_size":512,"md_size":8,"md_interleave":true,"dif_type":1}' >/dev/null || die "no disk"
serve "$IQN" m
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
disk=/dev/$(wait_disk "$IQN") || die "no disk"
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
iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
