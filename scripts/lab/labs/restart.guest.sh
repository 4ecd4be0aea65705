# Runs in the guest: fio writes and verifies, again and again, while the host kills the target KILLS times.
#   PORTAL, IQN, KILLS; each time that it has seen a kill and writes again, it says so: "load 2" waits for the second
. lablib.sh
start_iscsid
discover "$PORTAL" || die discovery
login "$IQN" "$PORTAL" || die login
disk=$(wait_disk "$IQN") || die "no disk"
written() { awk '{ print $7 }' "/sys/block/$disk/stat"; } # sectors
breaks() { dmesg | grep -c 'detected conn error'; }
state() { cat /sys/class/iscsi_session/session*/state; }

verified=0
write_and_verify() { # until stopped: each run writes all blocks in an order of its own and reads them back
  while [[ ! -e /tmp/enough ]]; do
    fio --name=v --filename="/dev/$disk" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=16 --size=24m \
      --randseed="$((++verified))" --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/tmp/fio.out 2>&1 ||
      { cat /tmp/fio.out; return 1; }
  done
  step "fio verified $verified runs"
}
step "fio writes"
write_and_verify & fio=$!
for ((kill = 1; kill <= KILLS; kill++)); do
  from=$(written)
  until (($(written) > from + 2048)); do kill -0 "$fio" || die "fio ended"; sleep 0.1; done
  step "load $kill"
  until (($(breaks) >= kill)) && [[ $(state) = LOGGED_IN ]]; do kill -0 "$fio" || die "fio ended"; sleep 0.1; done
  from=$(written)
  until (($(written) > from)); do kill -0 "$fio" || die "fio ended"; sleep 0.1; done
  step "recovered from kill $kill"
done
touch /tmp/enough
wait "$fio" || die "fio found a difference"
if dmesg | grep -E 'I/O error|offlined'; then die "errors came through"; fi
logout "$IQN" "$PORTAL" || die logout
step ok
