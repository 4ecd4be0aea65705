#!/usr/bin/env bash
# nvme_figures.sh [QUEUE_DEPTH] - nanoseconds and instructions per IO of the NVMe driver alone, on one core.
#
# The mock controller moves no data and completes in random order; it is measured apart. Time is the median of five runs, in
# batches of QUEUE_DEPTH IOs (64). Instructions are counted by valgrind: the difference between two runs of different lengths,
# so that what is done once does not count.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
depth=${1:-64}
cargo build --locked --profile dist --features sim --example nvme_figures
program=${CARGO_TARGET_DIR:-target}/dist/examples/nvme_figures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for _ in 1 2 3 4 5; do taskset -c 0 "$program" 50000 "$depth"; done | tee "$work/times"
awk '{ print $4 }' "$work/times" | sort -n | sed -n 3p | xargs -I N echo "median: N ns per IO in the driver"

command -v valgrind >/dev/null || { echo "nvme_figures: no valgrind: instructions are not counted" >&2; exit 77; }
inclusive() { # ROUNDS FUNCTION: a row per file that code was inlined from
  callgrind_annotate --inclusive=yes --auto=no --threshold=100 "$work/out.$1" 2>/dev/null | tr -d , |
    awk -v name="$2" 'index($0, name) { sum += $1 } END { print sum + 0 }'
}
for rounds in 100 1100; do
  valgrind --tool=callgrind --callgrind-out-file="$work/out.$rounds" "$program" "$rounds" "$depth" >/dev/null 2>&1
done
total=0
for name in figures::submit_all figures::poll_all blank::Blank::serve; do
  each=$(( ($(inclusive 1100 "$name") - $(inclusive 100 "$name")) / (1000 * depth) ))
  echo "$name: $each instructions per IO"
  [[ $name = *serve ]] || total=$((total + each))
done
echo "driver: $total instructions per IO"
