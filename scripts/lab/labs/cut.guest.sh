# Runs in the guest: the link between the kernel's initiator and lunette, which has a network namespace of its own, is cut under IO: for 10 s, for
# 30 s, and for longer than the initiator waits (replacement_timeout). Sessions come back by themselves (ErrorRecoveryLevel 0), and
# what was written is there.
#   SHARE: the folder with lunette
. lablib.sh
IQN=iqn.2026-11.io.lunette:cut PORTAL=10.9.0.2:3260
modprobe veth || die "no veth"
ip netns add target && ip link add cable type veth peer name inner netns target && ip address add 10.9.0.1/24 dev cable &&
  ip link set cable up && ip -n target address add 10.9.0.2/24 dev inner && ip -n target link set inner up && ip -n target link set lo up ||
  die "no namespace"
sever() { ip -n target link set inner down; }
mend() { ip -n target link set inner up; }

namespace=(ip netns exec target)
mkdir -p /tmp/d; mount "$(drive labdata)" /tmp/d || die mount
start_lunette
check "a file" rpc bdev_aio_create '{"name":"file","filename":"/tmp/d/file.img","lunette_create_size":67108864,"block_size":512}'
serve "$IQN" file
start_iscsid
try "discovery" 0 "$PORTAL,1 $IQN" -- iscsiadm -m discovery -t sendtargets -p "$PORTAL"
setting "$IQN" node.session.timeo.replacement_timeout 120
setting "$IQN" node.conn[0].timeo.noop_out_interval 2
setting "$IQN" node.conn[0].timeo.noop_out_timeout 4
setting "$IQN" node.conn[0].timeo.login_timeout 4
login "$IQN" "$PORTAL" >/dev/null || die login
disk=$(wait_disk "$IQN") || die "no disk"
session=$(echo /sys/class/iscsi_session/session*)
[[ -d $session ]] || die "not one session: $session"
is_in() { [[ $(<"$session/state") = "$1" ]]; } # STATE
moves() { local was; was=$(written "$disk"); sleep 0.5; (($(written "$disk") > was)); }
writes() { if until_true 40 moves; then ok "$1: it writes"; else bad "$1: nothing is written, the session is $(<"$session/state")"; fi; } # NAME

python3 "$SHARE/ledger.py" "/dev/$disk" 32 /tmp/enough >/tmp/ledger.out 2>&1 & ledger=$!
writes "at first"

for seconds in 10 30; do
  step "cut for $seconds s"
  mark
  sever; sleep "$seconds"
  if is_in FAILED; then ok "$seconds s: the session is being recovered"; else bad "$seconds s: the session is $(<"$session/state")"; fi
  if moves; then bad "$seconds s: it writes through a link that is cut"; else ok "$seconds s: nothing is written meanwhile"; fi
  mend
  if until_true 30 is_in LOGGED_IN; then ok "$seconds s: it is logged in again"; else bad "$seconds s: the session is $(<"$session/state")"; fi
  writes "$seconds s"
  if says 'I/O error|recovery timed out|rejecting I/O'; then bad "$seconds s: there were errors"; dmesg | tail -5; else ok "$seconds s: no IO failed"; fi
done

step "cut for longer than the initiator waits"
mark
echo 5 >"$session/recovery_tmo"
sever
kernel_says_late() { until_true 40 says "$1" && ok "$2" || { bad "$2"; dmesg | tail -5; }; } # PATTERN NAME
kernel_says_late 'session recovery timed out' "past it: the initiator gives up"
is_offline() { [[ $(<"/sys/block/$disk/device/state") = transport-offline ]]; }
if until_true 20 is_offline; then ok "past it: the disk is offline"; else bad "past it: the disk is $(<"/sys/block/$disk/device/state")"; fi
kernel_says_late 'I/O error' "past it: IO fails"
sleep 3
mend
if until_true 60 is_in LOGGED_IN; then ok "past it: it is logged in again"; else bad "past it: the session is $(<"$session/state")"; fi
echo 120 >"$session/recovery_tmo"
writes "past it"
connections() { rpc iscsi_get_connections | grep -c '"id"'; }
is_alone() { (($(connections) == 1)); }
if until_true 70 is_alone; then ok "lunette has that session alone"; else bad "lunette has $(connections) connections"; fi

step "the account"
touch /tmp/enough
if wait "$ledger"; then ok "all is there that was written: $(</tmp/ledger.out)"; else bad "$(</tmp/ledger.out)"; dmesg | tail -30; fi
[[ $(</tmp/ledger.out) != *" 0 failed"* ]] && ok "and some failed" || bad "no write failed past the time: $(</tmp/ledger.out)"
iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
