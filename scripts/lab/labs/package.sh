#!/usr/bin/env bash
# package.sh - the Debian package in a guest that runs systemd: installed, upgraded, removed, purged.
# Variables: BINARY, what the packages are made of (target/release/lunette); OUT, a folder for the guest's output.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
BINARY=$(realpath "${BINARY:-$lab/../../../target/release/lunette}")
export BINARY LAB_DIR=${LAB_DIR:-$HOME/.cache/guest-lab-systemd}
mkdir "$work/share"
for package in first:1 second:2; do
  made=$(REVISION=${package#*:} "$lab/../../package.sh" deb)
  cp "$made" "$work/share/${package%:*}.deb"
done
LAB_SYSTEMD=1 "$lab/../build-guest.sh"
truncate -s 32M "$work/data.img"
rc=0
"$lab/../run-guest.sh" -t "${LIMIT:-600}" -m 1536 -k lab.systemd -s "$work/share" -o "${OUT:-$work/out}" "$lab/package.guest.sh" -- \
  -drive "if=none,id=data,file=$work/data.img,format=raw,cache=unsafe" -device virtio-blk-pci,drive=data,serial=labdata |
  tee "$work/said" | grep -v '^checks: ' || rc=$?
add_guest package "$rc" "$work/said"
finish
