#!/usr/bin/env bash
# The kernel initiator in the guest against lunette on the host, which serves the disk from two reactors, while four
# other sessions write and compare their own range of the same disk.
#   CHAP=1, DIGESTS=1, MULTIPATH=1: the guest uses them; OUT: folder for the guest's output; LUNETTE: the binary
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/hostlib.sh"
lunette=${LUNETTE:-$lab/../../../target/release/lunette} iqn=iqn.2026-11.io.lunette:lab
options=()
if [[ -n ${CHAP:-} ]]; then
  (umask 077; printf '%s\n' "$chap_secret" >"$work/secret")
  options+=(--chap-user "$chap_user" --chap-secret-file "$work/secret")
fi
"$lunette" serve --demo -m 0x3 --idle park --portal 127.0.0.1:0 --target "$iqn" --malloc "disk:${DISK_MIB}M" \
  --ready-file "$work/ready" "${options[@]}" >"$work/log" 2>&1 & pid=$! children+=($!)
wait_for 10 "$pid" test -s "$work/ready" || { echo "lab: lunette did not get ready" >&2; cat "$work/log" >&2; exit 1; }
portal=$(head -1 "$work/ready")
rc=0
initiator_lab "${portal##*:}" "$iqn" 0 || rc=$?
kill "$pid" || true
ended=0; wait "$pid" || ended=$?
if ((rc != 0 || ended != 0)); then
  echo "lab: status $rc, lunette ended with $ended; its log:" >&2
  tail -40 "$work/log" >&2
fi
exit $((rc ? rc : ended))
