#!/usr/bin/env bash
# run.sh [OPTION...] DEVICE [JOB...] - fio's jobs at a disk that the kernel's initiator has; a table, and fio's own words in a folder.
#
#   JOB           randread, randwrite, mixed, sequential, depth, multipath; without any: all that only read
#   --destroy     jobs that write may run: what is on DEVICE is lost
#   -t SECONDS    of each point (10)
#   -r SECONDS    before each point, not counted (2)
#   -e ENGINE     fio's ioengine (io_uring)
#   -o DIR        where fio's output goes (fio-results)
#
# Written are only disks that come by iSCSI, and maps of nothing else; and none that is mounted, swap or part of
# another device.
set -euo pipefail
jobs_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
fail() { echo "run.sh: $*" >&2; exit 1; }

out=fio-results destroy=
export RUNTIME=10 RAMP=2 ENGINE=io_uring DEVICE
while (($# > 0)); do
  case $1 in
    --destroy) destroy=1; shift ;;
    -t | -r | -e | -o)
      (($# > 1)) || usage
      case $1 in -t) RUNTIME=$2 ;; -r) RAMP=$2 ;; -e) ENGINE=$2 ;; -o) out=$2 ;; esac
      shift 2 ;;
    -*) usage ;;
    *) break ;;
  esac
done
(($# > 0)) || usage
given=$1; shift
[[ -b $given ]] || fail "$given is no block device"
command -v fio >/dev/null || fail "there is no fio"
DEVICE=$(readlink -f "$given")
jobs=("${@:-randread}")
(($# > 0)) || jobs+=(depth)

writes() { grep -qE '^rw=(write|randwrite|randrw|rw)$' "$1"; }

by_iscsi() { # NAME: of a disk, a partition, or a map
  local name
  if ! compgen -G "/sys/class/block/$1/slaves/*" >/dev/null; then
    [[ $(readlink -f "/sys/class/block/$1") = */session[0-9]*/target*/block/* ]]
    return
  fi
  for name in "/sys/class/block/$1/slaves"/*; do by_iscsi "${name##*/}" || return; done
}

in_use() { # why DEVICE must not be written
  local name=${DEVICE##*/} part number
  by_iscsi "$name" || { echo "$name is no disk that comes by iSCSI"; return; }
  for part in "/sys/class/block/$name" "/sys/class/block/$name"/"$name"*; do
    [[ -e $part/dev ]] || continue
    number=$(<"$part/dev")
    ! grep -qE "^[0-9]+ [0-9]+ $number " /proc/self/mountinfo || { echo "${part##*/} is mounted"; return; }
    ! compgen -G "/sys/fs/btrfs/*/devices/${part##*/}" >/dev/null || { echo "${part##*/} is part of a btrfs that is mounted"; return; }
    ! compgen -G "$part/holders/*" >/dev/null || { echo "${part##*/} is part of $(ls "$part/holders")"; return; }
    ! grep -q "^/dev/${part##*/} " /proc/swaps || { echo "${part##*/} is swap"; return; }
  done
}

for job in "${jobs[@]}"; do
  file=$jobs_dir/$job.fio
  [[ -f $file ]] || fail "there is no job $job"
  writes "$file" || continue
  [[ -n $destroy ]] || fail "$job writes: what is on $given would be lost; say --destroy"
  why=$(in_use)
  [[ -z $why ]] || fail "$given: $why"
done

describe() { # what the figures depend on, as it is set now
  local name=${DEVICE##*/} queue=/sys/class/block/${DEVICE##*/}
  echo "$(uname -sr), $(nproc) CPUs; $given = $name, $(($(<"$queue/size") / 2048)) MiB"
  echo "scheduler $(<"$queue/queue/scheduler"), nr_requests $(<"$queue/queue/nr_requests"), max_sectors_kb $(<"$queue/queue/max_sectors_kb")"
  [[ ! -r $queue/device/queue_depth ]] || echo "queue_depth $(<"$queue/device/queue_depth"), hardware queues $(ls "$queue/mq" | wc -l)"
  ! compgen -G "$queue/slaves/*" >/dev/null || echo "paths: $(ls "$queue/slaves" | paste -sd' ')"
}

mkdir -p "$out"
describe | tee "$out/host.txt"
printf '%-24s %12s %10s %12s %12s\n' job IO/s MiB/s 'p50 us' 'p99 us'
for job in "${jobs[@]}"; do
  (cd "$jobs_dir" && fio --output-format=normal,terse --terse-version=3 "$job.fio") >"$out/$job.txt" 2>&1 ||
    { tail -20 "$out/$job.txt" >&2; fail "$job failed"; }
  # fio's terse fields: what is read begins at 6, what is written at 47; the latency of the side with more IOs is shown.
  awk -F';' '
    function part(from, share,   at, pair) {
      for (at = from + 12; at < from + 32; at++) { split($at, pair, "%="); if (pair[1] + 0 == share) return pair[2] }
      return "-"
    }
    $1 == "3" && NF > 80 {
      side = ($8 >= $49) ? 6 : 47
      printf "%-24s %12d %10.1f %12s %12s\n", $3, $8 + $49, ($7 + $48) / 1024, part(side, 50), part(side, 99)
      lines++
    }
    END { exit lines == 0 }' "$out/$job.txt" || fail "$job: fio printed no figures: $out/$job.txt"
done
