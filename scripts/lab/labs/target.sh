#!/usr/bin/env bash
# target.sh LAB... - lunette and the kernel's initiator in one guest: runs LAB.guest.sh there, for each.
#   sg3     sg3_utils at each kind of disk
#   disks   resize under a mounted file system, LUNs that come and go under IO, a device that fails under dm-flakey
#   fabric  namespaces of the kernel's NVMe/TCP target, which lunette drives: one grows; the target dies, and comes back in time or not
#   multipath  two portal groups under dm-multipath: paths fail over in both directions while fio verifies, lunette is killed
#   cdrom   a CD-ROM drive (mounted, locked, ejected, its disc changed) and a removable disk
#   pass    a disk and a tape of the kernel's scsi_debug, passed through
#   protect RAM disks with protection information, types 1 and 2
#   cut     the link to lunette is cut under IO for 10 s, for 30 s, and for longer than the initiator waits
#   fight   two initiators take a disk from each other by reservations, lunette being killed meanwhile
#   lio     what lunette exports is loaded by targetcli into LIO, what that saves is imported: initiators find the same disks
#   fio     the jobs of bench/fio, for function only
# Variables: LUNETTE, the binary; ROUNDS of coming and going (3); HANDLER=1, multipath wants the kernel's ALUA handler; OUT, a folder for the guest's output.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
lunette=${LUNETTE:-$lab/../../../target/release/lunette}
mkdir "$work/share"
strip -o "$work/share/lunette" "$lunette"
cp -r "$lab/../../../bench/fio" "$lab/iso.py" "$lab/ledger.py" "$lab/fight.py" "$work/share/"

in_guest() { # LAB
  local rc=0
  truncate -s 384M "$work/data.img"; truncate -s 64M "$work/flaky.img"
  mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 "$work/data.img"
  "$lab/../run-guest.sh" -t "${LIMIT:-1500}" -m 1536 -s "$work/share" -o "${OUT:-$work/out}" -e ROUNDS="${ROUNDS:-3}" -e HANDLER="${HANDLER:-}" "$lab/$1.guest.sh" -- \
    -drive "if=none,id=data,file=$work/data.img,format=raw,cache=unsafe,discard=unmap" -device virtio-blk-pci,drive=data,serial=labdata \
    -drive "if=none,id=flaky,file=$work/flaky.img,format=raw,cache=unsafe" -device virtio-blk-pci,drive=flaky,serial=labflaky |
    tee "$work/said" | grep --line-buffered -v '^checks: ' || rc=$?
  add_guest "$1" "$rc" "$work/said"
}

for name; do in_guest "$name"; done
finish
