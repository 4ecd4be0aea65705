# Runs in the guest: lunette with two portal groups, the kernel's initiator at both, dm-multipath over them. fio writes and
# verifies all the while; paths fail over in both directions, by the operator's hand and by SET TARGET PORT GROUPS; at last
# lunette is killed and comes back with the states that it had.
#   SHARE: the folder with lunette
. lablib.sh
iqn=iqn.2026-11.io.lunette:paths
disk=$(drive labflaky) state=/out/state config=/out/config.json
state_of() { # PG_TAG -> its access state
  rpc lunette_get_logical_units | tr -d ' \n' | grep -oE "\"pg_tag\":$1,\"relative_port\":[0-9]+,\"port_group\":[0-9]+,\"state\":\"[a-z_]+\"" | grep -oE '[a-z_]+"$' | tr -d '"'
}
is_state() { [[ $(state_of "$1") = "$2" ]]; } # PG_TAG STATE
told() { rpc lunette_get_logical_units; sg_rtpg -v -d "/dev/$second"; tail -20 /out/lunette.log; } # what everybody says
set_state() { rpc lunette_target_node_set_alua_state "{\"name\":\"$iqn\",\"pg_tag\":$1,\"state\":\"$2\"}"; } # PG_TAG STATE
# Debian's cloud kernel is built without the ALUA handler: LAB_FLAVOUR=amd64 has it.
has_handler() { [[ $(cat "/sys/block/$first/device/dh_state" 2>/dev/null) = alua ]]; }
knows() { [[ $(cat "/sys/block/$1/device/access_state" 2>/dev/null) = "$2" ]]; } # sdX STATE: that is what the handler has learnt
learns() { # NAME sdX STATE
  if until_true 20 knows "$2" "$3"; then ok "$1: the handler knows $2 as $3"; else bad "$1: $2 is $(cat "/sys/block/$2/device/access_state"), not $3"; told; fi
}
takes() { # PG_TAG sdX: the kernel's handler asks for that group's state by that path, or sg_stpg in its place
  has_handler && return
  # A unit attention that is still owed would be the answer, and the tool may say nothing of it.
  sg_turs "/dev/$2" >/dev/null 2>&1
  check "SET TARGET PORT GROUPS by $2" sg_stpg --optimized --tp="$1" "/dev/$2"
}
of_port() { # PORT -> the sdX of the session at that portal
  local s
  for s in /sys/class/iscsi_session/session*; do
    [[ $(cat "$s"/device/connection*/iscsi_connection/*/persistent_port) = "$1" ]] || continue
    for s in "$s"/device/target*/*/block/sd*; do [[ -e $s ]] && { echo "${s##*/}"; return; }; done
  done
  return 1
}
both_there() { of_port 3260 >/dev/null && of_port 3261 >/dev/null; }
moves() { local was; was=$(written "$1"); sleep 0.5; (($(written "$1") > was)); } # sdX: something is written by that path
still() { local was; was=$(written "$1"); sleep 0.5; (($(written "$1") == was)); } # sdX
goes_by() { # NAME sdX: within 30 s, and by the other path nothing
  local other=$first
  [[ $2 != "$first" ]] || other=$second
  if until_true 30 moves "$2"; then ok "$1: by $2"; else bad "$1: nothing goes by $2"; multipath -ll; fi
  if until_true 10 still "$other"; then ok "$1: nothing by $other"; else bad "$1: $other is written too"; multipath -ll; fi
}

step "lunette, two portal groups"
start_lunette --state "$state"
check "a disk" rpc bdev_aio_create "{\"name\":\"disk0\",\"filename\":\"$disk\",\"block_size\":512}"
check "the second portal group" rpc iscsi_create_portal_group '{"tag":2,"portals":[{"host":"0.0.0.0","port":"3261"}]}'
serve "$iqn" disk0
check "it leads to the target" rpc iscsi_target_node_add_pg_ig_maps "{\"name\":\"$iqn\",\"pg_ig_maps\":[{\"pg_tag\":2,\"ig_tag\":1}]}"
check "the second path stands by" set_state 2 standby
# Before the login, as the kernel reads TPGS only when it attaches its handler.
check "initiators may change states" rpc lunette_bdev_set_alua '{"name":"disk0","explicit":true}'
check "a saved configuration" rpc lunette_save_config "{\"filename\":\"$config\"}"

step "two sessions"
start_iscsid
try "discovery tells both portals" 0 '127.0.0.1:3260,1' '127.0.0.1:3261,2' -- iscsiadm -m discovery -t sendtargets -p 127.0.0.1:3260
setting "$iqn" node.session.timeo.replacement_timeout 5
setting "$iqn" node.conn[0].timeo.noop_out_interval 2
setting "$iqn" node.conn[0].timeo.noop_out_timeout 2
modprobe -a dm_multipath dm_service_time dm_round_robin
[[ -z ${HANDLER:-} ]] || modprobe scsi_dh_alua || die "this kernel has no ALUA handler: LAB_FLAVOUR=amd64"
check "login by both" iscsiadm -m node -T "$iqn" --login
until_true 20 both_there || die "no two disks: $(lsscsi)"
first=$(of_port 3260) second=$(of_port 3261)
try "REPORT TARGET PORT GROUPS by the first" 0 'target port group id : 0x1 ' 'asymmetric access state : 0x00' 'target port group id : 0x2 ' 'asymmetric access state : 0x02' -- sg_rtpg -v -d "/dev/$first"
try "a READ by the one that stands by" 2 -- sg_dd if="/dev/$second" of=/dev/null bs=512 count=1 blk_sgio=1

if [[ -n ${HANDLER:-} ]]; then
  for name in "$first" "$second"; do try "$name has the kernel's ALUA handler" 0 '^alua$' -- cat "/sys/block/$name/device/dh_state" || die "$(uname -r): no handler: $(lsmod)"; done
fi

step multipath
mkdir -p /etc/multipath
cat >/etc/multipath.conf <<'CONF'
defaults {
  find_multipaths no
  user_friendly_names yes
  polling_interval 1
  max_polling_interval 1
}
devices {
  device {
    vendor "LUNETTE"
    product ".*"
    path_grouping_policy group_by_prio
    prio alua
    hardware_handler "1 alua"
    failback immediate
    no_path_retry 60
  }
}
CONF
start_udev
multipathd || die multipathd
has_paths() { dev=$(ls /dev/mapper/mpath? 2>/dev/null | head -1); [[ -n $dev ]] && (($(multipath -ll | grep -cE ' sd[a-z]+ .*running') == 2)); }
until_true 30 has_paths || { multipath -ll; multipathd show paths; die "no multipath device with two paths"; }
multipath -ll
prefers() { local shown; shown=$(multipath -ll) && grep -q 'prio=50' <<<"$shown" && grep -q 'prio=1 ' <<<"$shown"; }
until_true 20 prefers || true
try "two groups by priority" 0 'prio=50' 'prio=1 ' -- multipath -ll

step "fio writes and verifies all the while"
steady() { # until /tmp/enough is there
  while [[ ! -e /tmp/enough ]]; do
    fio --name=v --filename="$dev" --direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=8 --size=32m --verify=crc32c --verify_backlog=512 \
      --verify_fatal=1 --verify_state_save=0 --time_based --runtime=20 --output=/tmp/fio.out || return 1
    echo >>/tmp/fio.runs
  done
}
steady & fio=$!
goes_by "at first" "$first"

step "the operator fails over, and back"
mark
check "the second is optimized" set_state 2 active_optimized
check "the first stands by" set_state 1 standby
goes_by "over" "$second"
check "the first is optimized" set_state 1 active_optimized
check "the second stands by" set_state 2 standby
goes_by "back" "$first"
try "in transition nothing is served" 2 -- bash -c "$SHARE/lunette rpc -s $socket lunette_target_node_set_alua_state '{\"name\":\"$iqn\",\"pg_tag\":2,\"state\":\"transitioning\"}' >/dev/null && sg_dd if=/dev/$second of=/dev/null bs=512 count=1 blk_sgio=1"
check "and ends" set_state 2 standby

if has_handler; then echo "the kernel has its ALUA handler: $(cat "/sys/block/$first/device/dh_state")"; else echo "the kernel has no ALUA handler: sg_stpg stands in"; fi
if has_handler; then
  step "the handler follows every state"
  learns "at first" "$first" active/optimized
  learns "at first" "$second" standby
  for pair in unavailable:unavailable active_non_optimized:active/non-optimized transitioning:transitioning; do
    check "the second is ${pair%:*}" set_state 2 "${pair%:*}"
    learns "${pair%:*}" "$second" "${pair#*:}"
    learns "${pair%:*}" "$first" active/optimized
    goes_by "${pair%:*}" "$first"
  done
  check "the second is preferred" rpc lunette_target_node_set_alua_state "{\"name\":\"$iqn\",\"pg_tag\":2,\"state\":\"standby\",\"preferred\":true}"
  prefers() { [[ $(<"/sys/block/$second/device/preferred_path") = "$1" ]]; }
  if until_true 20 prefers 1; then ok "the handler knows of it"; else bad "$second is not preferred"; told; fi
  check "and is not any more" rpc lunette_target_node_set_alua_state "{\"name\":\"$iqn\",\"pg_tag\":2,\"state\":\"standby\",\"preferred\":false}"
  if until_true 20 prefers 0; then ok "the handler knows of that"; else bad "$second is preferred"; told; fi
fi

step "a path fails: the initiator fails over by SET TARGET PORT GROUPS, and back"
echo offline >"/sys/block/$first/device/state"
takes 2 "$second"
goes_by "over" "$second"
if until_true 10 is_state 2 active_optimized; then ok "the initiator has set the second path's state"; else bad "state $(state_of 2)"; told; fi
check "meanwhile the first stands by" set_state 1 standby
echo running >"/sys/block/$first/device/state"
until_true 20 has_paths || bad "the first path does not come back"
echo offline >"/sys/block/$second/device/state"
takes 1 "$first"
goes_by "back" "$first"
if until_true 10 is_state 1 active_optimized; then ok "the initiator has set the first path's state"; else bad "state $(state_of 1)"; fi
echo running >"/sys/block/$second/device/state"
until_true 20 has_paths || bad "the second path does not come back"
check "the second stands by" set_state 2 standby

step "kill -9, and it is as it was"
# Else the initiator would change them while lunette is away.
check "initiators may change states no more" rpc lunette_bdev_set_alua '{"name":"disk0","explicit":false}'
check "the second stands by, whatever they did" set_state 2 standby
goes_by "before" "$first"
kill -9 "$lunette"; wait "$lunette" 2>/dev/null
"$SHARE/lunette" serve -r "$socket" --idle park --config "$config" --state "$state" >>/out/lunette.log 2>&1 & lunette=$!
until_true 30 rpc rpc_get_methods >/dev/null 2>&1 || die "lunette does not come back: $(tail -5 /out/lunette.log)"
is_state 1 active_optimized && is_state 2 standby && ok "the states are" || bad "states $(state_of 1) $(state_of 2)"
goes_by "after" "$first"

touch /tmp/enough
if wait "$fio"; then ok "fio has found nothing wrong in $(wc -l </tmp/fio.runs) runs"; else bad "fio: $(tail -5 /tmp/fio.out)"; fi
dmesg | grep -iE 'alua|sd[a-z].*(sense|error)' | tail -15
multipath -F; multipathd shutdown >/dev/null 2>&1; sleep 1
iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
