#!/usr/bin/env bash
# nvme.sh [WORLD...] - lunette's NVMe driver at QEMU's controllers in a guest, once in each world.
#   iommu39, iommu48  an IOMMU with addresses of so many bits: vfio-pci
#   bare              none: uio_pci_generic and --unsafe-noiommu
# Each guest has two controllers: one with two namespaces (512 and 4096 bytes a block), one with one; a third behind a port
# from which QEMU removes it while it is driven, and where it comes back; a fourth and a fifth that are functions of one device.
# Variables: CONFORM=1, the host runs libiscsi's suite at what the guest serves; CONTRACT, the library's test binary, whose test of real controllers runs there; GUEST, whose script runs there (nvme; nvmeserve; nvmeperf; nvmespdk); LUNETTE, the binary; SPDK_NVME_PERF, SPDK's, for nvmeperf to compare with; SPDK_CONTRACT, the test binary with SPDK in it, for nvmespdk; OUT, a folder for the guest's output.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
lunette=${LUNETTE:-$lab/../../../target/release/lunette}
mkdir "$work/share"
strip -o "$work/share/lunette" "$lunette"
cp "$lab/../../setup.sh" "$lab/../../rpc/nvme-disk.sh" "$work/share/"
with_libraries() { # BINARY NAME: it goes to share/spdk under that name, and its libraries too
  mkdir -p "$work/share/spdk"
  strip -o "$work/share/spdk/$2" "$1"
  ldd "$1" | awk '$3 ~ /^\// && $1 !~ /^lib(c|m)\./ { print $3 }' | xargs -r cp -t "$work/share/spdk"
}
[[ -z ${SPDK_NVME_PERF:-} ]] || with_libraries "$SPDK_NVME_PERF" spdk_nvme_perf
[[ -z ${SPDK_CONTRACT:-} ]] || with_libraries "$SPDK_CONTRACT" contract
[[ -z ${CONTRACT:-} ]] || strip -o "$work/share/contract" "$CONTRACT"

qmp() { # CALL, as JSON
  python3 -c 'import json, socket, sys
qmp = socket.socket(socket.AF_UNIX)
qmp.connect(sys.argv[1])
lines = qmp.makefile("r")
for call in {"execute": "qmp_capabilities"}, json.loads(sys.argv[2]):
    qmp.sendall(json.dumps(call).encode() + b"\n")
    while "return" not in (answer := json.loads(lines.readline())):
        if "error" in answer: sys.exit(str(answer))' "$work/qmp" "$1"
}
throttle() { # IOS a second at the second controller's disk; 0: as many as it likes
  qmp '{"execute":"block_set_io_throttle","arguments":{"device":"nvme2","bps":0,"bps_rd":0,"bps_wr":0,"iops":'"$1"',"iops_rd":0,"iops_wr":0}}'
}

obey() { # what the guest asks for, each thing once: the guest says so when it is ready
  local word
  for word in "$@"; do
    until grep -q "^now $word it$" "$work/said"; do sleep 0.2; done
    case $word in
      remove) qmp '{"execute":"device_del","arguments":{"id":"c"}}' ;;
      add) qmp '{"execute":"device_add","arguments":{"driver":"nvme","id":"c2","serial":"LUNETTEC","bus":"hotport","addr":"0","drive":"nvme3"}}' ;;
      stall) throttle 1 ;;
      release) throttle 0 ;;
    esac
  done
}

conform() { # PORT, SECOND, END: libiscsi's suite at the first namespace, by two portals, once the guest serves it
  until grep -q 'serving the host$' "$work/said"; do sleep 0.5; done
  "$lab/../../conformance.py" --out "${OUT:-$work}/conformance" \
    --at "nvme-512=iscsi://127.0.0.1:$1/iqn.2026-11.io.lunette:nvme/0,iscsi://127.0.0.1:$2/iqn.2026-11.io.lunette:nvme/0" >"$work/conformed" 2>&1 || true
  : >"/dev/tcp/127.0.0.1/$3"
}

in_guest() { # WORLD
  local world=$1 rc=0 port second end options=() watchers=() drive iommu=() kargs=hugepages=160 devices=()
  case $world in
    iommu*) iommu=(-device "intel-iommu,intremap=on,aw-bits=${world#iommu}") kargs+=" intel_iommu=on iommu=nopt" ;;
    bare) ;;
    *) echo "nvme: no world $world" >&2; exit 2 ;;
  esac
  for drive in 0 1 2 3 4 5; do # the contract wants new disks
    if [[ -n ${CONTRACT:-}${SPDK_CONTRACT:-} ]]; then truncate -s 0 "$work/nvme$drive"; truncate -s 32M "$work/nvme$drive"
    else head -c 32M /dev/urandom >"$work/nvme$drive"; fi
  done
  for drive in 0 1 2 4 5; do devices+=(-drive "if=none,id=nvme$drive,file=$work/nvme$drive,format=raw,cache=writeback,discard=unmap"); done
  # One that does not go with its controller.
  devices+=(-blockdev "driver=raw,node-name=nvme3,discard=unmap,file.driver=file,file.filename=$work/nvme3")
  # In fixed slots, so that the addresses are known.
  devices+=(-device 'nvme,id=a,serial=LUNETTEA,addr=0x10,max_ioqpairs=8,mdts=7'
    -device 'nvme-ns,bus=a,drive=nvme0,nsid=1,logical_block_size=512,physical_block_size=512'
    -device 'nvme-ns,bus=a,drive=nvme1,nsid=2,logical_block_size=4096,physical_block_size=4096'
    -device 'nvme,id=b,serial=LUNETTEB,addr=0x11,max_ioqpairs=2,mdts=3'
    -device 'nvme-ns,bus=b,drive=nvme2,nsid=1,logical_block_size=512,physical_block_size=512'
    -device 'pcie-root-port,id=hotport,chassis=1,addr=0x12' -device 'nvme,id=c,serial=LUNETTEC,bus=hotport,addr=0'
    -device 'nvme-ns,bus=c,drive=nvme3,nsid=1,logical_block_size=512,physical_block_size=512'
    -device 'nvme,id=d,serial=LUNETTED,addr=0x13.0,multifunction=on,max_ioqpairs=2,drive=nvme4'
    -device 'nvme,id=e,serial=LUNETTEE,addr=0x13.1,max_ioqpairs=2,drive=nvme5'
    -qmp "unix:$work/qmp,server=on,wait=off")
  : >"$work/said"
  # In this order, and each as soon as it is asked for.
  obey remove add & watchers+=($!)
  obey stall release & watchers+=($!)
  children+=("${watchers[@]}")
  if [[ -n ${CONFORM:-} ]]; then
    read -r port second end <<<"$(free_ports 3)"
    options=(-p "$port:3260" -p "$second:3261" -p "$end:3259" -e CONFORM=1)
    conform "$port" "$second" "$end" & children+=($!)
  fi
  "$lab/../run-guest.sh" "${options[@]}" -t "${LIMIT:-900}" -m 1536 -s "$work/share" -o "${OUT:-$work/out}" -k "$kargs" \
    -e CALLS="${CALLS:-1000}" -e ROUNDS="${ROUNDS:-3}" -e WORLD="$world" -e FIRST=0000:00:10.0 -e SECOND=0000:00:11.0 -e PORT=0000:00:12.0 -e FOURTH=0000:00:13.0 -e FIFTH=0000:00:13.1 "$lab/${GUEST:-nvme}.guest.sh" -- "${iommu[@]}" "${devices[@]}" |
    tee "$work/said" | grep -v '^checks: ' || rc=$?
  kill "${watchers[@]}" 2>/dev/null || true
  if [[ -n ${CONFORM:-} ]]; then
    grep -v '^checks: ' "$work/conformed" || true
    add_counts "$work/conformed"
    ((${counts% *} > 0)) || { echo "FAIL libiscsi's suite did not run"; failed=$((failed + 1)); }
  fi
  add_guest "$world" "$rc" "$work/said"
}

[[ $# -gt 0 ]] || set -- iommu39 iommu48 bare
for world; do echo "-- $world"; in_guest "$world"; done
finish
