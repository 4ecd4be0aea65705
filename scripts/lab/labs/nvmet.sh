#!/usr/bin/env bash
# nvmet.sh [COMMAND...] - lunette as NVMe/TCP host against the kernel's target in the guest.
# Discovery first; then COMMAND, which finds the target in LUNETTE_NVMET=ADDRESS:PORT,NQN.
#   LUNETTE: the binary; OUT: folder for the guest's output
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
lunette=${LUNETTE:-$lab/../../../target/release/lunette} nqn=nqn.2026-11.io.lunette:lab
read -r port end <<<"$(free_ports 2)"
"$lab/../run-guest.sh" -t "${LIMIT:-1500}" -m 1024 -p "$port:4420" -p "$end:4421" -e NQN="$nqn" -o "${OUT:-$work/out}" \
  "$lab/nvmet.guest.sh" & guest=$! guests+=($!)

discover() { "$lunette" nvme discover "127.0.0.1:$port" "$@"; }
serves() { discover | grep -q "$nqn\$"; }
wait_for 120 "$guest" serves || { echo "lab: the guest's target does not answer: $(discover 2>&1)" >&2; exit 1; }

discovers() { # one line for the subsystem that is open, none for the other
  discover >"$work/list"; cat "$work/list"
  grep -qE "^subsystem +tcp +10\.0\.2\.15:4420 +$nqn\$" "$work/list"
  ! grep closed "$work/list"
}
check "discovery" discovers
check_status 1 "a port where nobody listens" "$lunette" nvme discover "127.0.0.1:$(free_ports 1)"
if (($# > 0)); then LUNETTE_NVMET="127.0.0.1:$port,$nqn" check "$*" "$@"; fi

: >"/dev/tcp/127.0.0.1/$end"
rc=0; wait "$guest" || rc=$?
if ((rc == 0)); then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL the guest ended with $rc"; fi
finish
