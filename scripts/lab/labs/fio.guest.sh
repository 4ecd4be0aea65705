# Runs in the guest: bench/fio at lunette through the guest's initiator, for function only: the jobs run, and writes are guarded.
. lablib.sh
IQN=iqn.2026-11.io.lunette:fio PORTAL=127.0.0.1:3260
modprobe -a dm_mod dm_round_robin dm_multipath || die "no dm-multipath"
start_lunette
rpc bdev_malloc_create '{"name":"ram","num_blocks":131072,"block_size":512}' >/dev/null || die "no RAM disk"
serve "$IQN" ram
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
setting "$IQN" node.session.nr_sessions 2
setting "$IQN" node.session.cmds_max 256
setting "$IQN" node.session.queue_depth 128
login "$IQN" "$PORTAL" >/dev/null || die login
read -r first second <<<"$(wait_disk "$IQN" 2)"
[[ -n ${second:-} ]] || die "no two paths"
runs=(bash "$SHARE/fio/run.sh" -t 2 -r 0 -o /tmp/fio -e libaio)
step "paths $first, $second"
try "reads need no leave" 0 "queue_depth 128" "randread-qd32-x4 +[1-9]" "depth-128 +[1-9]" -- "${runs[@]}" "/dev/$first"
try "writes do" 1 "randwrite writes: what is on /dev/$first would be lost; say --destroy" -- "${runs[@]}" "/dev/$first" randwrite
try "writes, mixed, streams" 0 "randwrite-qd1 +[0-9]" "randwrite-qd32-x4 +[1-9]" "mixed-8k-x4 +[1-9]" "read-128k-x4 +[1-9]" -- \
  "${runs[@]}" --destroy "/dev/$first" randwrite mixed sequential
mkfs.ext4 -q "/dev/$first" && mkdir -p /tmp/m && mount "/dev/$first" /tmp/m || die mount
try "not what is mounted" 1 "$first is mounted" -- "${runs[@]}" --destroy "/dev/$first" randwrite
umount /tmp/m
try "not what comes from elsewhere" 1 "vd[a-z] is no disk that comes by iSCSI" -- "${runs[@]}" --destroy "$(drive labdata)" randwrite
sectors=$(blockdev --getsz "/dev/$first")
table="0 $sectors multipath 0 0 1 1 round-robin 0 2 1 $(<"/sys/block/$first/dev") 1 $(<"/sys/block/$second/dev") 1"
map=$(mapped both "$table") || die "$map"
try "a map of both paths" 0 "paths: sd[ab] sd[ab]" "multipath-write-128k +[1-9]" -- "${runs[@]}" --destroy "$map" multipath
try "not a path of a map" 1 "$first is part of" -- "${runs[@]}" --destroy "/dev/$first" randwrite
dmsetup remove --noudevrules --noudevsync both || bad "the map does not go"
iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
