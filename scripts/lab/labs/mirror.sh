#!/usr/bin/env bash
# mirror.sh [PART...] - RAID 1 of lunette on disks that are pulled, that cannot be read everywhere, and that lose power.
#   pull     the disks are QEMU's, of a SCSI controller: each is pulled under fio, comes back and is filled under fio; and a disk of
#            scsi_debug that cannot be read in some blocks
#   fill     a member is filled again and again under writes that are never flushed
#   cut      members are files, each on a file system of its own; QEMU is killed: what was flushed is on the member that is there at the
#            next start
#   stale    the same after a member's disk was pulled: that one alone is not served, with the other one that one's data are
#   planted  fill and cut with bugs in a test build that they have to find
#   planted_read  the next start after a power cut with one member pulled, with a bug that has that one read
# All parts unless some are named. Variables: LUNETTE, PLANTED: the binary, and one built with --features sim; RECORDER: the example
# of the initiator.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
iqn=iqn.2026-11.io.lunette:mirror
wwn=0x5000c50000000a00 # and the LUN: QEMU's serial= is no name for life to the kernel
LOST=3 # powercut.py's status, and the guest's where members differ

boot() { # BINARY STAGE [run-guest options...]: in the background, with the disks of $work: $guest, $port
  local binary=$1 stage=$2 disks=(-device virtio-scsi-pci,id=scsi) disk lun=0; shift 2
  for disk in a b state; do
    disks+=(-blockdev "driver=raw,node-name=$disk,file.driver=file,file.filename=$work/$disk.img"
      -device "scsi-hd,bus=scsi.0,lun=$((lun)),drive=$disk,id=$disk,wwn=$((wwn + lun++))")
  done
  rm -rf "$work/out" "$work/qmp" "$work/qemu.pid"
  : >"$work/guest.log"
  read -r port < <(free_ports 1)
  "$lab/../run-guest.sh" -t 1500 -s "$(share_of "$binary")" -o "$work/out" -p "$port:3260" -e STAGE="$stage" -e IQN="$iqn" "$@" \
    "$lab/mirror.guest.sh" -- "${disks[@]}" -qmp "unix:$work/qmp,server=on,wait=off" -pidfile "$work/qemu.pid" >>"$work/guest.log" 2>&1 & guest=$!
  guests+=("$guest")
}

guest_failed() { echo "lab: $*; the guest says:"; tail -30 "$work/guest.log"; return 1; }
guest_says() { wait_for 150 "$guest" grep -q "^@$1\$" "$work/guest.log" || guest_failed "it does not come to '$1'"; }
pull() { "$lab/qmp.py" "$work/qmp" device_del id="$1"; }
plug() { "$lab/qmp.py" "$work/qmp" device_add driver=scsi-hd bus=scsi.0 lun="$2" drive="$1" id="$1" wwn="$((wwn + $2))"; }

blank() { # MIB: the disks, all zeroes
  local disk
  for disk in a b state; do rm -f "$work/$disk.img"; truncate -s "$1M" "$work/$disk.img"; done
}

pulled() { # BINARY
  local rc=0
  blank 24
  boot "$1" pull
  guest_says "pull b"; pull b
  guest_says "plug b"; plug b 1
  guest_says "pull a"; pull a
  guest_says "plug a"; plug a 0
  wait "$guest" || rc=$?
  grep -E '^(ok|FAIL|##) ' "$work/guest.log" || true
  add_guest pull "$rc" "$work/guest.log"
}

overwritten() { # BINARY [run-guest options...]
  local rc=0
  blank 24
  boot "$1" fill "${@:2}"
  wait "$guest" || rc=$?
  grep -E '^(ok|FAIL|##) ' "$work/guest.log"
  return "$rc"
}

power_goes() { # BINARY PULLED|- [run-guest options...]: under the recorder, some time after that disk was pulled
  local binary=$1 pulled=$2 disk recording; shift 2
  blank 64
  for disk in a b state; do mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 "$work/$disk.img"; done
  boot "$binary" write "$@"
  : >"$work/recorder.log"
  # Most writes last by a SYNCHRONIZE CACHE of the whole disk; UNMAPs would be written, too, as zeroes.
  "$recorder" "127.0.0.1:$port" "$iqn" "$work/journal" --wait 600 --seconds 600 --cut --fua 0 --syncs 5 >"$work/recorder.log" & recording=$!
  children+=("$recording")
  wait_for 150 "$recording" grep -q writing "$work/recorder.log" || { guest_failed "nothing was written"; return 1; }
  sleep 2
  if [[ $pulled != - ]]; then
    pull "$pulled"
    guest_says "degraded" || return 1
    sleep 2
  fi
  kill -9 "$(<"$work/qemu.pid")"
  wait "$recording" || { guest_failed "recorder: $(<"$work/recorder.log")"; return 1; }
  wait "$guest" || true # it was killed
  tail -1 "$work/recorder.log"
}

comes_back() { # BINARY STAGE [run-guest options...]: what the array shows at the next start, with the disks as they are in `cut`
  local rc=0 disk
  for disk in a b state; do cp --sparse=always "$work/cut/$disk.img" "$work/$disk.img"; done
  boot "$@"
  wait "$guest" || rc=$?
  grep -E '^(ok|FAIL) ' "$work/guest.log" || true
  ((rc == 0)) || { guest_failed "it ended with $rc"; return 1; }
  "$lab/powercut.py" image "$work/journal" "$work/out/disk.img"
}

keep_cut() { rm -rf "$work/cut"; mkdir "$work/cut"; cp --sparse=always "$work"/{a,b,state}.img "$work/cut/"; }

cut_with() { # BINARY [run-guest options...]: power cut with both members, then started with the second only
  power_goes "$1" - "${@:2}" && keep_cut || return 1
  comes_back "$lunette" second
}

stale_is_left_alone() {
  power_goes "$lunette" a && keep_cut || return 1
  comes_back "$lunette" stale
}

part_pull() { pulled "$lunette"; }
part_fill() { check "writes during a fill are on both" overwritten "$lunette"; }
part_cut() { check "power cut with two members, then one is not there" cut_with "$lunette"; }
part_stale() { check "power cut with one member pulled, then that one alone" stale_is_left_alone; }
part_planted() {
  # It takes a write to the MiB that is being copied: the first fill of these in which one is lost ends it.
  check_status "$LOST" "a fill that takes no notice of writes: members differ" overwritten "$planted" -e FILLS=20 -e LUNETTE_PLANT=raid::CopiedOver
  check_status "$LOST" "a flush of one member: the other one lacks data" cut_with "$planted" -e LUNETTE_PLANT=raid::FlushOfOne
}
part_planted_read() {
  check "power cut with one member pulled" eval 'power_goes "$lunette" a && keep_cut'
  check_status "$LOST" "the first member is read, whatever it is" comes_back "$planted" both -e LUNETTE_PLANT=raid::StaleRead
}

(($#)) || set -- pull fill cut stale planted planted_read
for part; do
  declare -F "part_$part" >/dev/null || { echo "lab: no part '$part'" >&2; exit 2; }
  "part_$part"
done
finish
