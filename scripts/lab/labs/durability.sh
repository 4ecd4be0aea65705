#!/usr/bin/env bash
# durability.sh [PART...] - what was answered as durable is durable.
#   restart  lunette is killed and started again while the guest's initiator writes and verifies
#   log      lunette in the guest over dm-log-writes; the log is cut at random points
#   kill     lunette in the guest on a sparse file; QEMU is killed
#   nvme     lunette in the guest drives QEMU's NVMe controller, whose flushes and writes QEMU's blklogwrites logs; and, as QEMU's
#            takes no notice of FUA, the kernel's NVMe/TCP target over dm-log-writes: both logs are cut, and the first again without
#            flush in the driver of a test build, which the cuts have to find
#   nvme_planted  the second log again, without flush, or FUA
#   planted  log and kill with flush or FUA switched off in a test build: each has to find it
#   planted_more  kill without UNMAPs flushed, and without FUA
# All parts unless some are named. Variables: ROUNDS (of kill: 2), KILLS (of restart: 3), POINTS (of a log: 200), LOG_SECONDS (10);
# LUNETTE, PLANTED: the binary, and one built with --features sim; RECORDER: the example of the initiator.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
iqn=iqn.2026-11.io.lunette:lab
FILE_MIB=16 LOG_GIB=4

boot() { # BINARY DISK CACHE [run-guest options...]: in the background: $guest, $qemu_pid (file), $port, $end_port, $out
  local binary=$1 disk=$2 cache=$3 drives=() options=(); shift 3
  out=$work/out qemu_pid=$work/qemu.pid
  read -r port end_port < <(free_ports 2)
  rm -rf "$out" "$qemu_pid" "$work"/*.img
  truncate -s 64M "$work/data.img"
  case $disk in
    nvme) # what the filter logs is what the controller asks of its disk; the log itself need not outlive QEMU
      drives+=(-device intel-iommu,intremap=on,aw-bits=39
        -drive "if=none,id=data,driver=blklogwrites,file.driver=file,file.filename=$work/data.img,log.driver=file,log.filename=$work/log.img,cache.direct=off,cache.no-flush=off"
        -device nvme,id=a,serial=LUNETTEA,addr=0x10,max_ioqpairs=4,mdts=7 -device nvme-ns,bus=a,drive=data,nsid=1,logical_block_size=512)
      : >"$work/log.img"
      options=(-m 1536 -k 'intel_iommu=on iommu=nopt' -e ADDRESS=0000:00:10.0 -e SWITCHES='--mem-size 128') ;;
    *) drives+=(-drive "if=none,id=data,file=$work/data.img,format=raw,cache=$cache" -device virtio-blk-pci,drive=data,serial=labdata) ;;
  esac
  case $disk in
    log | nvmet)
      truncate -s "${LOG_GIB}G" "$work/log.img"
      drives+=(-drive "if=none,id=log,file=$work/log.img,format=raw,cache=unsafe" -device virtio-blk-pci,drive=log,serial=lablog) ;;
    file) mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 "$work/data.img" ;;
  esac
  "$lab/../run-guest.sh" -t 900 -s "$(share_of "$binary")" -o "$out" -p "$port:3260" -p "$end_port:3261" -e DISK="$disk" \
    -e IQN="$iqn" -e FILE_MIB="$FILE_MIB" "${options[@]}" "$@" "$lab/powercut.guest.sh" -- "${drives[@]}" -pidfile "$qemu_pid" >"$work/guest.log" 2>&1 & guest=$!
  guests+=("$guest")
}

record() { "$recorder" "127.0.0.1:$port" "$iqn" "$work/journal" --wait 600 "$@"; }

guest_failed() { echo "lab: $*; the guest says:"; tail -20 "$work/guest.log"; return 1; }

log_is_cut() { # DISK BINARY SEED RECORDER-ARGUMENTS... -- RUN-GUEST-OPTIONS...
  local disk=$1 binary=$2 seed=$3 points=${POINTS:-200} load=() recording first; shift 3
  # A build for tests writes less in that time, and what is planted shows at most cuts.
  [[ $binary != "$planted" ]] || points=$((points < 40 ? points : 40))
  while [[ $1 != -- ]]; do load+=("$1"); shift; done; shift
  # virtio's cache is not what is tested.
  boot "$binary" "$disk" unsafe "$@"
  record --seconds "${LOG_SECONDS:-10}" --seed "$seed" "${load[@]}" & recording=$! children+=("$recording")
  wait -n -p first "$recording" "$guest" && [[ $first = "$recording" ]] || { guest_failed recorder; return 1; }
  : >"/dev/tcp/127.0.0.1/$end_port"
  wait "$guest" || { guest_failed "the guest ended with $?"; return 1; }
  "$lab/powercut.py" log "$work/journal" "$work/log.img" --points "$points" --seed "$seed"
}

power_is_cut() { # BINARY ROUND RECORDER-ARGUMENTS... -- RUN-GUEST-OPTIONS...
  local binary=$1 round=$2 load=() cache=writeback recording rc=0; shift 2
  ((round % 2)) || cache=none
  while [[ $1 != -- ]]; do load+=("$1"); shift; done; shift
  boot "$binary" file "$cache" "$@"
  : >"$work/recorder.log" # not the round before's
  record --seconds 300 --cut --seed "$round" "${load[@]}" >"$work/recorder.log" & recording=$! children+=("$recording")
  wait_for 150 "$recording" grep -q writing "$work/recorder.log" || { guest_failed "nothing was written"; return 1; }
  sleep "$((1 + RANDOM % 3)).$((RANDOM % 10))"
  kill -9 "$(<"$qemu_pid")"
  wait "$recording" || { guest_failed "recorder: $(<"$work/recorder.log")"; return 1; }
  wait "$guest" || true # it was killed
  echo "cache=$cache, $(tail -1 "$work/recorder.log")"
  # 1: errors were corrected, which is what replaying the journal is.
  e2fsck -fy "$work/data.img" >"$work/fsck.log" 2>&1 || rc=$?
  ((rc <= 1)) || { cat "$work/fsck.log"; return 1; }
  debugfs -R "dump /disk.img $work/disk.img" "$work/data.img" 2>"$work/debugfs.log"
  [[ -s $work/disk.img ]] || { cat "$work/debugfs.log"; return 1; }
  "$lab/powercut.py" image "$work/journal" "$work/disk.img"
}

part_log() {
  check "power cut at ${POINTS:-200} points of a log of dm-log-writes" log_is_cut log "$lunette" 1 --
  check "the same, writing through" log_is_cut log "$lunette" 4 --through --fua 0 --syncs 0 -- -e CREATE='"lunette_write_through":true,'
}

part_nvme() {
  check "power cut at ${POINTS:-200} points of QEMU's log under an NVMe controller" log_is_cut nvme "$lunette" 5 --fua 0 --syncs 5 --
  check "power cut at ${POINTS:-200} points of dm-log-writes under NVMe/TCP" log_is_cut nvmet "$lunette" 6 --fua 20 --
  check_status 3 "no flush: QEMU's log shows it" log_is_cut nvme "$planted" 7 --fua 0 --syncs 5 -- -e LUNETTE_PLANT=nvme::FlushNotSent
}

part_nvme_planted() {
  check_status 3 "no flush over TCP: dm-log-writes shows it" log_is_cut nvmet "$planted" 8 --syncs 5 -- -e LUNETTE_PLANT=nvme::FlushNotSent
  check_status 3 "no FUA over TCP: dm-log-writes shows it" log_is_cut nvmet "$planted" 9 --fua 20 -- -e LUNETTE_PLANT=nvme::FuaDropped
}

part_kill() {
  local round
  for ((round = 1; round <= ${ROUNDS:-2}; round++)); do
    check "power cut by killing QEMU, round $round" power_is_cut "$lunette" "$round" --unmaps 10 --
  done
}

part_planted() { # 3: data are lost
  check_status 3 "no flush: the log shows it" log_is_cut log "$planted" 2 --syncs 5 -- -e LUNETTE_PLANT=FlushNotWaitedFor
  check_status 3 "no FUA: the log shows it" log_is_cut log "$planted" 3 --fua 20 -- -e LUNETTE_PLANT=FuaDropped
  check_status 3 "no flush: killing QEMU shows it" power_is_cut "$planted" 1 --fua 0 --syncs 5 -- -e LUNETTE_PLANT=FlushNotWaitedFor
}

part_planted_more() {
  # The writes last by their FUA, and only UNMAPs follow.
  check_status 3 "no flush: UNMAPs are lost" power_is_cut "$planted" 4 --slots 256 --writes 300 --fua 100 --syncs 5 -- -e LUNETTE_PLANT=FlushNotWaitedFor
  check_status 3 "no FUA: killing QEMU shows it" power_is_cut "$planted" 2 --fua 20 --syncs 0 -- -e LUNETTE_PLANT=FuaDropped
}

start_host_lunette() { # lunette on the host, on $work/disk.img and $port, from the same configuration each time
  "$lunette" serve -r "$work/sock" -c "$work/config" --idle park --ready-file "$work/ready" >>"$work/lunette.log" 2>&1 & server=$!
  children+=("$server")
  wait_for 20 "$server" test -s "$work/ready" || { cat "$work/lunette.log"; return 1; }
}

survives_kills() {
  local server kill guest
  read -r port < <(free_ports 1)
  truncate -s 96M "$work/disk.img"
  printf '{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_aio_create","params":{"name":"disk","filename":"%s"}}]},
    {"subsystem":"iscsi","config":[
      {"method":"iscsi_create_portal_group","params":{"tag":1,"portals":[{"host":"127.0.0.1","port":"%s"}]}},
      {"method":"iscsi_create_initiator_group","params":{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}},
      {"method":"iscsi_create_target_node","params":{"name":"%s","alias_name":"","queue_depth":64,
        "luns":[{"bdev_name":"disk","lun_id":0}],"pg_ig_maps":[{"pg_tag":1,"ig_tag":1}]}}]}]}' \
    "$work/disk.img" "$port" "$iqn" >"$work/config"
  start_host_lunette || return 1
  "$lab/../run-guest.sh" -t 900 -o "$work/out" -e PORTAL="10.0.2.2:$port" -e IQN="$iqn" -e KILLS="${KILLS:-3}" "$lab/restart.guest.sh" \
    >"$work/guest.log" 2>&1 & guest=$!
  guests+=("$guest")
  wait_for 200 "$guest" grep -q 'fio writes' "$work/guest.log" || { guest_failed "no fio"; return 1; }
  for ((kill = 1; kill <= ${KILLS:-3}; kill++)); do
    # The guest says when it writes again: each kill meets a load.
    wait_for 120 "$guest" grep -q "load $kill" "$work/guest.log" || { guest_failed "no load before kill $kill"; return 1; }
    kill -9 "$server"; { wait "$server" || true; } 2>"$work/killed"
    rm -f "$work/ready"
    sleep "0.$((RANDOM % 10))"
    start_host_lunette || return 1
  done
  wait "$guest" || { guest_failed "the guest ended with $?"; return 1; }
  grep -E 'recovered|fio ' "$work/guest.log"
  kill "$server"; wait "$server" || { cat "$work/lunette.log"; return 1; }
}

part_restart() {
  check "fio verifies through ${KILLS:-3} kills of lunette" survives_kills
}

(($#)) || set -- restart log kill nvme nvme_planted planted planted_more
for part; do
  declare -F "part_$part" >/dev/null || { echo "lab: no part '$part'" >&2; exit 2; }
  "part_$part"
done
finish
