# Runs in the guest, by nvme.sh: reads a second at one controller, of lunette's driver and of SPDK's spdk_nvme_perf where that was
# given, in turns. Both poll on the second processor, 32 reads of 4 KiB at a time.
#   WORLD, SECOND: see nvme.sh; ROUNDS (3), SECONDS_EACH (10)
. lablib.sh
unsafe=
[[ $WORLD != bare ]] || unsafe=--unsafe-noiommu
seconds=${SECONDS_EACH:-10}
"$SHARE/setup.sh" bind "$SECOND" >/dev/null || die "bind $SECOND"
ours() {
  taskset 2 "$SHARE/lunette" nvme perf $unsafe --seconds "$seconds" "$SECOND" 2>/tmp/ours | awk '{ print $1 }'
}
spdk() {
  OPENSSL_CONF=/dev/null LD_LIBRARY_PATH=$SHARE/spdk "$SHARE/spdk/spdk_nvme_perf" -q 32 -o 4096 -w randread -t "$seconds" -c 0x2 -s 128 \
    -r "trtype:PCIe traddr:$SECOND" 2>&1 | tee /tmp/spdk | awk '/^Total/ { printf "%.0f\n", $3 }'
}
both() { echo "$1" | awk -v spdk="$2" '{ exit !($1 > 0 && spdk > 0) }'; }
for ((round = 1; round <= ${ROUNDS:-3}; round++)); do
  mine=$(ours)
  [[ -n $mine ]] && ok "round $round: lunette $mine reads a second" || bad "round $round: $(cat /tmp/ours)"
  [[ -x $SHARE/spdk/spdk_nvme_perf ]] || continue
  its=$(spdk)
  if both "${mine:-0}" "${its:-0}"; then ok "round $round: SPDK $its"; else bad "round $round: $(tail -20 /tmp/spdk)"; fi
done
finish
