#!/usr/bin/env bash
# cdboot.sh - boot firmware at a CD-ROM drive: QEMU's SeaBIOS finds it at the other end of iSCSI (scsi-block, so its commands come as they are) and boots
# from its disc. Variables: LUNETTE, the binary.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
lunette=${LUNETTE:-$lab/../../../target/release/lunette}
head -c 64K /dev/zero >"$work/file"
"$lab/iso.py" "$work/disc.iso" FILE.BIN "$work/file" 8
"$lunette" serve --portal 127.0.0.1:0 --idle park --log error --ready-file "$work/ready" "$work/disc.iso" >/dev/null & daemon=$!
children+=("$daemon")
wait_for 20 "$daemon" test -s "$work/ready"
boots() {
  local said=$work/firmware
  qemu-system-x86_64 -display none -m 64 -nodefaults -chardev "file,id=said,path=$said" -device isa-debugcon,iobase=0x402,chardev=said \
    -device virtio-scsi-pci -drive "if=none,id=cd,file=iscsi://$(<"$work/ready")/iqn.2026-11.io.lunette:demo/0,format=raw,readonly=on" \
    -device scsi-block,drive=cd -boot d >/dev/null 2>&1 & children+=("$!")
  wait_for 60 "$!" grep -q 'LUNETTE BOOTED' "$said" && grep -q "vendor='LUNETTE' product='CD-ROM'.* type=5 removable=1" "$said"
}
check "SeaBIOS finds the drive and boots from its disc" boots
finish
