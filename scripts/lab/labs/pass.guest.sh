# Runs in the guest: a disk of the kernel's scsi_debug, passed through by lunette to the guest's own initiator: the same in every
# word by both ways, fio's data, errors of the device, of the host, and a device that is pulled out; then a tape.
. lablib.sh
IQN=iqn.2026-11.io.lunette:pass PORTAL=127.0.0.1:3260
debug=/sys/bus/pseudo/drivers/scsi_debug
modprobe -a sg sd_mod || die "no sg"
modprobe scsi_debug dev_size_mb=64 delay=0 || die "no scsi_debug"
of_debug() { echo "$debug"/adapter*/host*/target*/*:*/"$1"/* 2>/dev/null; } # KIND: what the kernel calls it
name() { local path; path=$(of_debug "$1"); [[ -e $path ]] && echo "${path##*/}"; }
until_true 20 name scsi_generic >/dev/null && until_true 20 name block >/dev/null || die "scsi_debug has no disk"
sg=/dev/$(name scsi_generic) own=/dev/$(name block)
until_true 10 test -c "$sg" || die "no $sg"
start_lunette
rpc lunette_sg_create "{\"name\":\"passed\",\"filename\":\"$sg\",\"timeout_s\":2}" >/dev/null || die "it is not passed through"
if rpc lunette_sg_create "{\"name\":\"other\",\"filename\":\"$sg\",\"uuid\":\"00000000-0000-4000-8000-000000000001\"}" >/tmp/said 2>&1
then bad "another device was taken"; else grep -q 'another device' /tmp/said && ok "another device is refused" || bad "$(</tmp/said)"; fi
serve "$IQN" passed
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
disk=/dev/$(wait_disk "$IQN") || die "no disk"
step "$sg, by the host's own way $own, through lunette $disk"

# --- the same by both ways
same() { # NAME COMMAND...: with the device behind it, it says the same of both
  local name=$1 one other; shift
  one=$("$@" "$own" 2>&1 | sed "s|$own||g"); other=$("$@" "$disk" 2>&1 | sed "s|$disk||g")
  [[ $one = "$other" && -n $one ]] && ok "$name" || { bad "$name differs:"; diff <(echo "$one") <(echo "$other") | head -20; }
}
try "sg_inq" 0 'Linux' 'scsi_debug' -- sg_inq "$disk"
same "INQUIRY" sg_inq
pages=$(sg_vpd -H -p sv "$disk" | sed -nE 's/^ *[0-9a-f]+ +(([0-9a-f]{2} +)+).*/\1/p' | tr -s ' \n' ' ' | cut -d' ' -f5-)
[[ $pages = 00\ 80\ 83* ]] || bad "VPD pages $pages"
for page in $pages; do [[ $page = b0 ]] || same "VPD page $page" sg_vpd -H -p "0x$page"; done
# 64 MiB at once is more than is passed.
try "VPD B0h" 0 'Maximum transfer length: 32768' -- sg_vpd -p bl "$disk"
same "READ CAPACITY" sg_readcap -l
same "mode pages" sg_modes -a
same "log pages" sg_logs -a
same "operation codes" sg_opcodes
for cdb in "28 00 7f ff ff ff 00 00 01 00" "c7 00 00 00 00 00 00 00 00 00" "12 01 77 00 60 00"; do
  read -ra bytes <<<"$cdb"
  one=$(sg_raw -r 512 "$own" "${bytes[@]}" 2>&1); other=$(sg_raw -r 512 "$disk" "${bytes[@]}" 2>&1)
  [[ $one = "$other" && $one = *'llegal'* ]] && ok "refused alike: $cdb" || bad "$cdb: $one, but $other"
done
try "sg_luns" 0 '1 lun entr' -- sg_luns "$disk"

# --- data
step data
head -c 24M /dev/urandom >/tmp/data
check "sg_dd writes" sg_dd if=/tmp/data of="$disk" bs=512 bpt=1024 oflag=direct
check "the device has them" cmp -n 25165824 /tmp/data <(dd if="$own" bs=1M count=24 iflag=direct status=none)
check "sg_dd reads" sg_dd if="$disk" of=/tmp/read bs=512 bpt=2048 count=49152 iflag=direct
check "the same" cmp /tmp/data /tmp/read
check "fio, with verify" verified 0 24m
echo 512 >"/sys/block/${disk##*/}/queue/max_sectors_kb"; echo "max_hw_sectors_kb $(<"/sys/block/${disk##*/}/queue/max_hw_sectors_kb")"
dd if=/tmp/data of="$disk" bs=8M count=3 oflag=direct status=none && cmp -n 25165824 /tmp/data "$own" && ok "long WRITEs" || bad "long WRITEs"

# --- CDBs of 32 bytes
step "CDBs of 32 bytes"
long() { # ACTION LBA BLOCKS: READ(32) is 9, WRITE(32) 11
  printf '7f 00 00 00 00 00 00 18 00 %02x 00 00 00 00 00 00 00 00 %02x %02x 00 00 %02x %02x 00 00 00 00 00 00 %02x %02x' "$1" \
    $(($2 >> 8)) $(($2 & 255)) $(($2 >> 8)) $(($2 & 255)) $(($3 >> 8)) $(($3 & 255))
}
sgd=/dev/$(basename "/sys/block/${disk##*/}/device/scsi_generic/"*)
head -c 4096 /dev/urandom >/tmp/eight
read -ra cdb <<<"$(long 11 519 8)"
check "WRITE(32)" sg_raw -s 4096 -i /tmp/eight "$sgd" "${cdb[@]}"
check "the device has it" cmp /tmp/eight <(dd if="$own" bs=512 skip=519 count=8 iflag=direct status=none)
read -ra cdb <<<"$(long 9 519 8)"
check "READ(32)" sg_raw -r 4096 -o /tmp/read "$sgd" "${cdb[@]}"
check "the same" cmp /tmp/eight /tmp/read
# In pieces.
read -ra cdb <<<"$(long 9 7 2048)"
check "a long READ(32)" sg_raw -r 1048576 -o /tmp/read "$sgd" "${cdb[@]}"
check "in order" cmp /tmp/read <(dd if="$own" bs=512 skip=7 count=2048 iflag=direct status=none)
# Beyond its end, and an action that it does not have.
for action in "09 00 00 00 00 00 00 7f ff ff ff" "77 00 00 00 00 00 00 00 00 00 07"; do
  read -ra bytes <<<"7f 00 00 00 00 00 00 18 00 $action 00 00 00 00 00 00 00 00 00 00 00 01"
  one=$(sg_raw -r 512 "$own" "${bytes[@]}" 2>&1); other=$(sg_raw -r 512 "$disk" "${bytes[@]}" 2>&1)
  [[ $one = "$other" && $one = *'llegal'* ]] && ok "refused alike: ${bytes[*]}" || bad "${bytes[*]}: $one, but $other"
done

# --- what is ours
step reservations
check "sg_persist registers" sg_persist --out --register --param-sark=abc "$disk"
try "sg_persist reads the keys" 0 '0xabc' -- sg_persist -k "$disk"
check "sg_persist reserves" sg_persist --out --reserve --prout-type=1 --param-rk=abc "$disk"
check "sg_persist clears" sg_persist --out --clear --param-rk=abc "$disk"

# --- what goes wrong
step errors
echo 2 >"$debug/opts"
# 1 MiB from block 1000h on; the device fails at 1234h.
try "a medium error says where" 3 'Medium Error' '[Ii]nfo.*0x1234' -- sg_raw -r 1048576 "$sgd" 28 00 00 00 10 00 00 08 00 00
echo 0 >"$debug/opts"
check "and reads again" sg_raw -o /dev/null -r 1048576 "$sgd" 28 00 00 00 10 00 00 08 00 00
timed_out() { sg_raw -t 30 "$sgd" 00 00 00 00 00 00 2>&1 | grep -q 'communication time-out'; }
echo 4 >"$debug/opts"; echo 10 >"$debug/every_nth"
until_true 60 timed_out && ok "a command that the device forgets is told as such" || bad "no time-out is told"
echo 0 >"$debug/every_nth"; echo 0 >"$debug/opts"
until_true 30 sg_turs "$sgd" && ok "ready again" || bad "not ready again"
check "it is served on" sg_dd if="$disk" of=/tmp/read bs=512 bpt=256 count=8192 iflag=direct
echo 1 >"/sys/block/${own##*/}/device/delete"
try "a device that is pulled out" 2 '[Nn]ot [Rr]eady' -- sg_turs -v "$sgd"
check "calls go on" rpc bdev_get_bdevs
logout "$IQN" "$PORTAL" >/dev/null || bad logout
rpc iscsi_delete_target_node "{\"name\":\"$IQN\"}" >/dev/null || bad "the target stays"
check "it is given back" rpc lunette_sg_delete '{"name":"passed"}'
until_true 20 modprobe -r scsi_debug && ok "nobody has it open" || bad "somebody has it open"

# --- a tape
step "a tape"
modprobe scsi_debug ptype=1 delay=0 || die "no tape"
until_true 20 name scsi_generic >/dev/null || die "scsi_debug has no tape"
sg=/dev/$(name scsi_generic)
until_true 10 test -c "$sg" || die "no $sg"
check "its number alone is enough" rpc lunette_sg_create "{\"name\":\"tape\",\"filename\":\"$sg\"}"
serve "$IQN" tape
discover "$PORTAL" >/dev/null && login "$IQN" "$PORTAL" >/dev/null || die login
tape() { local found; for found in /sys/class/iscsi_session/session*/device/target*/*:0/scsi_generic/sg*; do [[ -e $found ]] && echo "/dev/${found##*/}" && return; done; return 1; }
until_true 20 tape >/dev/null || die "no tape at the initiator"
try "it is one" 0 'device type: tape' -- sg_inq "$(tape)"
[[ $(sg_inq -H "$sg") = "$(sg_inq -H "$(tape)")" ]] && ok "INQUIRY of it" || bad "INQUIRY of it differs"
logout "$IQN" "$PORTAL" >/dev/null || bad logout
stop_lunette
finish
