# Runs in the guest: lunette serves a mirror of two disks, a and b, of a SCSI controller; its state is on a third one. STAGE:
#   pull    the disks themselves; the host pulls and plugs them when a line "@..." says so. The initiator is the guest's.
#   fill    the same without that: a member is filled again and again under writes
#   write   files on a file system of each, for the host's recorder, until the power is cut
#   second  the next start, the second member alone: what it has is left in /out/disk.img; then the first one comes
#   stale   the next start, the first one alone, which is stale
#   both    the next start; the first one, which is stale, is kept out
# IQN: the target's name; LUNETTE_PLANT: the bug planted in a test build
. lablib.sh
LOST=3
modprobe -a virtio_scsi sd_mod || die "no virtio_scsi"
mkdir -p /run/disk /tmp/a /tmp/b /tmp/state

declare -A wwid=([a]=naa.5000c50000000a00 [b]=naa.5000c50000000a01 [state]=naa.5000c50000000a02)
device_of() { # DISK -> sdX
  local file
  for file in /sys/block/sd*/device/wwid; do
    [[ $(<"$file") = "${wwid[$1]}" ]] && { file=${file%/device/wwid}; echo "${file##*/}"; return; }
  done 2>/dev/null
  return 1
}
is_there() { device_of "$1" >/dev/null; } # DISK
is_gone() { ! is_there "$1"; }
link() { # DISK: what udev's rules would do: /run/disk/DISK is the disk of that name
  until_true 10 is_there "$1" || die "no disk $1"
  ln -sf "/dev/$(device_of "$1")" "/run/disk/$1"
}
mounted() { # DISK: no metadata but what is synced is durable for the whole test
  link "$1"; mount -o commit=600 "$(realpath "/run/disk/$1")" "/tmp/$1" || die "mount $1"
}

begin() { # lunette, as its configuration says
  [[ -e /tmp/state/config.json ]] || echo '{"subsystems":[]}' >/tmp/state/config.json
  "$SHARE/lunette" serve -r "$socket" --idle park -c /tmp/state/config.json --state /tmp/state/state >>/out/lunette.log 2>&1 & lunette=$!
  is_up() { rpc rpc_get_methods >/dev/null 2>&1 || ! kill -0 "$lunette" 2>/dev/null; }
  until_true 20 is_up && kill -0 "$lunette" || { cat /out/lunette.log; die "lunette did not start"; }
}
create() { # NAME PATH [PARAMETERS,]
  rpc bdev_aio_create "{\"name\":\"$1\",${3:-}\"filename\":\"$2\",\"block_size\":512}" >/dev/null || die "no $1"
}
mirror() { # NAME FIRST SECOND [,PARAMETERS]
  rpc bdev_raid_create "{\"name\":\"$1\",\"raid_level\":\"raid1\",\"base_bdevs\":[\"$2\",\"$3\"]${4:-}}" >/dev/null || die "no mirror $1"
}
about() { rpc bdev_raid_get_bdevs '{"category":"all"}' | jq_ "$1"; }
jq_() { python3 -c 'import json, sys
array = next(array for array in json.load(sys.stdin) if array["name"] == sys.argv[1])
print(*(member["lunette_state"] for member in array["base_bdevs_list"]), array.get("lunette_not_ready") or "")' "$1"; }
is_so() { [[ $(about "$1") = "$2"* ]]; } # NAME STATES
becomes() { # NAME STATES WHAT [SECONDS]
  if until_true "${4:-30}" is_so "$1" "$2"; then ok "$3"; else bad "$3: $(about "$1"), not $2"; tail -5 /out/lunette.log; fi
}
has_blocks() { rpc bdev_get_bdevs "{\"name\":\"$1\"}" | grep -q "\"num_blocks\": *$2\\b"; } # BDEV BLOCKS
hold_same() { # WHAT DEVICE DEVICE [BYTES]
  if cmp ${4:+-n "$4"} <(dd if="$2" iflag=direct bs=1M status=none) <(dd if="$3" iflag=direct bs=1M status=none) >/tmp/cmp 2>&1; then
    ok "$1"
  else
    bad "$1: $(</tmp/cmp)"
    return 1
  fi
}
same() { hold_same "$1" "$(realpath /run/disk/a)" "$(realpath /run/disk/b)"; }
served() { # BDEV...
  rpc iscsi_create_portal_group '{"tag":1,"portals":[{"host":"0.0.0.0","port":"3260"}]}' >/dev/null &&
    rpc iscsi_create_initiator_group '{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}' >/dev/null || die "no portal"
  serve "$IQN" "$@"
}
logged_in() { # LUNS
  start_iscsid
  discover 127.0.0.1:3260 >/dev/null && login "$IQN" 127.0.0.1:3260 >/dev/null || die login
  wait_disk_of "$1" || die "no disks"
}
wait_disk_of() { for ((lun = 0; lun < $1; lun++)); do until_true 20 has_disk "$lun" || return 1; done; }
grows() { (($(written "$1") > $2 + 2000)); } # sdX SECTORS

comes_and_goes() { # DISK NUMBER: it is pulled and comes back, while LUN 0 is written
  local disk=$1 sd served before
  local with=("$2" "${@:3}")
  sd=$(device_of "$disk") served=$(disk_of 0)
  step "$disk, which is $sd, is pulled"
  echo "@pull $disk"
  until_true 20 is_gone "$disk" && ok "the kernel has lost $sd" || bad "the kernel keeps $sd"
  becomes R "${with[0]}" "the array says that $disk is out"
  before=$(written "$served")
  until_true 20 grows "$served" "$before" && ok "it is written without" || bad "it is not written"
  echo "@plug $disk"
  link "$disk"
  if [[ $(device_of "$disk") = "$sd" ]]; then echo "## it has the name that it had"; else ok "it is back as $(device_of "$disk")"; fi
  check "it is opened anew" rpc lunette_bdev_reopen "{\"name\":\"d$disk\"}"
  rpc bdev_raid_add_base_bdev "{\"raid_bdev\":\"R\",\"base_bdev\":\"d$disk\"}" >/tmp/added 2>&1
  becomes R "current current" "it is filled" 60
}

bad_blocks() { # R2 on a disk of scsi_debug that cannot read some of its blocks, and a part of the state's
  local sd before served
  modprobe scsi_debug dev_size_mb=8 medium_error_start=2000 medium_error_count=10 delay=0 || die "no scsi_debug"
  find_debug() { sd=$(grep -l scsi_debug /sys/block/sd*/device/model | cut -d/ -f4); [[ -n $sd ]]; }
  until_true 20 find_debug || die "no disk of scsi_debug"
  create dm "/dev/$sd"; create dc "/run/disk/state"
  mirror R2 dm dc
  check "a LUN" rpc iscsi_target_node_add_lun "{\"name\":\"$IQN\",\"bdev_name\":\"R2\",\"lun_id\":1}"
  scan; until_true 20 has_disk 1 || die "no disk for LUN 1"
  served=/dev/$(disk_of 1)
  becomes R2 "current current" "the second mirror is whole"
  head -c 4M /dev/urandom >/tmp/data
  check "data" dd if=/tmp/data of="$served" bs=64K oflag=direct status=none
  before=$(written "$sd")
  echo 2 >/sys/bus/pseudo/drivers/scsi_debug/opts
  dd if="/dev/$sd" of=/dev/null bs=4096 skip=250 count=1 iflag=direct status=none 2>/dev/null && bad "its blocks can be read" || ok "blocks of a disk cannot be read"
  if cmp -n 4194304 /tmp/data <(dd if="$served" bs=64K count=64 iflag=direct status=none); then ok "they are read from the other one"; else bad "the array cannot be read"; fi
  if (($(written "$sd") > before)); then ok "and written again"; else bad "nothing is written to it"; fi
  echo 0 >/sys/bus/pseudo/drivers/scsi_debug/opts
  if is_so R2 "current current"; then ok "both are still in the array"; else bad "the array: $(about R2)"; fi
  hold_same "both hold the same" "/dev/$sd" "$(realpath /run/disk/state)" 8388608
}

load() { # writes to LUN 0 until it is killed, which waits for what the kernel has; its pid in $load
  fio --name=w --thread --filename="/dev/$(disk_of 0)" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=16 --size=16m --norandommap \
    --time_based --runtime=600 --output=/dev/null & load=$!
}

leave() { # the first 8 MiB of the array are for the host
  until_true 20 has_disk 0 || die "no disk"
  if dd if="/dev/$(disk_of 0)" of=/out/disk.img bs=64K count=128 iflag=direct status=none; then ok "$1"; else bad "it cannot be read"; fi
}

case $STAGE in
  pull | fill)
    link a; link b; link state
    begin
    create da /run/disk/a; create db /run/disk/b
    mirror R da db
    served R
    logged_in 1 ;;
  write)
    mounted a; mounted b; mounted state
    begin
    for disk in a b; do create "d$disk" "/tmp/$disk/disk.img" '"lunette_create_size":16777216,'; done
    mirror R da db ',"lunette_assume_clean":true'
    becomes R "current current" "a mirror"
    served R
    step "served${LUNETTE_PLANT:+ with $LUNETTE_PLANT planted}"
    until_true 60 is_so R "out current" && echo "@degraded"
    sleep 600 ;;
  second)
    mounted b; mounted state
    begin
    becomes R "out current" "the second member alone"
    logged_in 1; leave "what it has"
    mounted a
    becomes R "current current" "the first one is filled" ;;
  stale)
    mounted a; mounted state
    begin
    # So long a member that was current is waited for where another one is there.
    sleep 32
    becomes R "out out none of the members that are current is there" "the stale one alone is not served"
    if has_blocks R 0; then ok "it shows no blocks"; else bad "it shows blocks"; fi
    mounted b
    until_true 20 is_so R "filling current" || is_so R "current current" || bad "the array: $(about R)"
    logged_in 1; leave "with the other one that one's data are there"
    becomes R "current current" "the stale one is filled" ;;
  both)
    mounted b; mounted state
    begin
    becomes R "out current" "the second member"
    check "the first one is to stay out" rpc bdev_raid_remove_base_bdev '{"name":"da"}'
    mounted a
    until_true 20 has_blocks da 32768 || die "no first one"
    logged_in 1; leave "what is read" ;;
  *) die "STAGE=$STAGE" ;;
esac

case $STAGE in
  pull)
    rm -f /tmp/enough.0
    loaded 0 >/tmp/load.out 2>&1 & load=$!
    becomes R "current current" "the mirror is whole, under IO" 60
    comes_and_goes b "current out"
    comes_and_goes a "out current"
    touch /tmp/enough.0
    if wait "$load"; then ok "fio has verified all that it has written"; else bad "fio: $(tail -5 /tmp/load.out)"; fi
    says 'I/O error, dev s'"$(disk_of 0 | cut -c2-)" && bad "the initiator saw errors"
    same "both disks hold the same"
    bad_blocks ;;
  fill)
    becomes R "current current" "the mirror is whole"
    load
    for ((round = 0; round < ${FILLS:-3}; round++)); do
      check "taken out" rpc bdev_raid_remove_base_bdev '{"name":"db"}' || break
      check "and filled" rpc bdev_raid_add_base_bdev '{"raid_bdev":"R","base_bdev":"db"}' || break
      becomes R "current current" "it is filled under writes" 60
      kill -9 "$load"; wait "$load"
      same "both disks hold the same" || exit "$LOST"
      load
    done
    kill -9 "$load" ;;
  second | stale)
    cmp /tmp/a/disk.img /tmp/b/disk.img && ok "both hold the same" || bad "they differ" ;;
esac
if [[ -d /sys/class/iscsi_session ]]; then iscsiadm -m session -u >/dev/null; fi
stop_lunette
finish
