#!/usr/bin/env bash
# package.sh [LAB...] - the Debian package in a guest that runs systemd: runs LAB.guest.sh there, for each.
#   package  installed, upgraded, removed, purged; with LONG=1 hung, and removed and installed again
#   walk     what somebody does who moves from tgt to lunette: installs it, shares a disk, takes over tgt's, watches, breaks things and
#            finds them, goes back; what each command said is in walk.txt of OUT
# package unless another is named. Variables: BINARY, what the packages are made of (target/release/lunette); OUT, a folder for the guest's output.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
BINARY=$(realpath "${BINARY:-$lab/../../../target/release/lunette}") OUT=${OUT:-$work/out}
export BINARY LAB_DIR=${LAB_DIR:-$HOME/.cache/guest-lab-systemd}
mkdir "$work/share"
for package in first:1 second:2; do
  made=$(REVISION=${package#*:} "$lab/../../package.sh" deb)
  cp "$made" "$work/share/${package%:*}.deb"
done
LAB_SYSTEMD=1 LAB_EXTRA="tgt tmux curl" "$lab/../build-guest.sh"

dissected() { # what the guest's recorder has kept, as Wireshark reads it
  local file
  for file in "$OUT"/*.pcapng; do
    tshark -r "$file" -d tcp.port==3260,iscsi 2>/dev/null | tail -20 >"$work/dissected"
    printf '\n# the recorder, on another machine\n$ tshark -r %s -d tcp.port==3260,iscsi | tail -20\n%s\n' "${file##*/}" "$(<"$work/dissected")" >>"$OUT/walk.txt"
  done
  grep -q 'Task Management' "$work/dissected"
}

(($#)) || set -- package
for name; do
  rm -f "$work/data.img" "$OUT"/*.pcapng
  truncate -s 32M "$work/data.img"
  rc=0
  "$lab/../run-guest.sh" -t "${LIMIT:-1500}" -m 1536 -k lab.systemd -s "$work/share" -o "$OUT" -e LONG="${LONG:-}" "$lab/$name.guest.sh" -- \
    -drive "if=none,id=data,file=$work/data.img,format=raw,cache=unsafe" -device virtio-blk-pci,drive=data,serial=labdata |
    tee "$work/said" | grep -v '^checks: ' || rc=$?
  add_guest "$name" "$rc" "$work/said"
  [[ $name != walk ]] || check "Wireshark reads what the recorder has kept" dissected
done
finish
