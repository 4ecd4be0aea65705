# Runs in the guest: two initiators take a disk from each other by PERSISTENT RESERVE OUT, PREEMPT, and each writes as long as it is let. Once at a
# lunette that keeps its reservations in a state file and is killed meanwhile, so that the fight goes on where it was.
#   SHARE: the folder with lunette
. lablib.sh
IQN=iqn.2026-11.io.lunette:fight PORTAL=127.0.0.1:3260
state=/out/state config=/out/config.json
mkdir -p /tmp/d; mount "$(drive labdata)" /tmp/d || die mount
start_lunette --state "$state"
check "a file" rpc bdev_aio_create '{"name":"file","filename":"/tmp/d/file.img","lunette_create_size":67108864,"block_size":512}'
serve "$IQN" file
check "a saved configuration" rpc lunette_save_config "{\"filename\":\"$config\"}"
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
setting "$IQN" node.conn[0].timeo.noop_out_interval 2
setting "$IQN" node.conn[0].timeo.noop_out_timeout 2
login "$IQN" "$PORTAL" >/dev/null || die login
first=$(wait_disk "$IQN") || die "no disk"
iscsiadm -m iface -I second -o new >/dev/null && iscsiadm -m iface -I second -o update -n iface.initiatorname -v iqn.2004-10.com.example:second >/dev/null &&
  iscsiadm -m iface -I second -o update -n iface.transport_name -v tcp >/dev/null &&
  iscsiadm -m node -T "$IQN" -p "$PORTAL" -I second -o new >/dev/null && iscsiadm -m node -T "$IQN" -p "$PORTAL" -I second --login >/dev/null ||
  die "no second session"
second=
for disk in $(wait_disk "$IQN" 2); do [[ $disk = "$first" ]] || second=$disk; done
[[ -n $second ]] || die "no second session's disk"

fight() { # NAME SECONDS [COMMAND...]: the command runs meanwhile
  local name=$1 seconds=$2 one other rc=0; shift 2
  python3 "$SHARE/fight.py" "/dev/$first" 0xa1 0xb2 "$seconds" >/tmp/one 2>&1 & one=$!
  python3 "$SHARE/fight.py" "/dev/$second" 0xb2 0xa1 "$seconds" >/tmp/other 2>&1 & other=$!
  (($# == 0)) || "$@"
  wait "$one" || rc=1
  wait "$other" || rc=1
  if ((rc == 0)); then ok "$name: each has it, loses it, and never both"; else bad "$name"; fi
  tail -n 3 /tmp/one /tmp/other
}
step "two nodes"
fight "two nodes" 30
again() { # kill -9 and begin anew
  sleep 15
  kill -9 "$lunette"; wait "$lunette" 2>/dev/null
  "$SHARE/lunette" serve -r "$socket" --idle park --config "$config" --state "$state" >>/out/lunette.log 2>&1 & lunette=$!
  until_true 30 rpc rpc_get_methods >/dev/null 2>&1 || die "lunette does not come back: $(tail -5 /out/lunette.log)"
}
step "the same while lunette is killed"
fight "two nodes, and lunette killed" 60 again
iscsiadm -m session -u >/dev/null || bad logout
kill "$lunette"; wait "$lunette" || bad "lunette ended with $?"
finish
