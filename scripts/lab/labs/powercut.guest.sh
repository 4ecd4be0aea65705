# Runs in the guest: lunette serves one disk to the host until the host connects to port 3261, or cuts the power.
#   DISK=log: the drive "labdata" below dm-log-writes, which logs to the drive "lablog"
#   DISK=file: a sparse file of FILE_MIB on an ext4 on "labdata"; what is not synced is in the guest's memory only
#   IQN: the target's name; CREATE: more parameters of the disk; LUNETTE_PLANT: the bug planted in a test build
. lablib.sh
data=$(drive labdata) || exit 1
case $DISK in
  log)
    modprobe -a dm_mod dm_log_writes || die "no dm-log-writes"
    log=$(drive lablog) || exit 1
    cut=$(mapped cut "0 $(blockdev --getsz "$data") log-writes $data $log") || die "$cut"
    create="\"filename\":\"$cut\"" ;;
  file)
    # The journal commits by itself only after the whole test: so long nothing but a sync makes metadata durable.
    mkdir -p /tmp/d; mount -o commit=600 "$data" /tmp/d || die mount
    create="\"filename\":\"/tmp/d/disk.img\",\"lunette_create_size\":$((FILE_MIB << 20))" ;;
  *) die "DISK=$DISK" ;;
esac
start_lunette
rpc bdev_aio_create "{\"name\":\"disk\",$CREATE$create,\"block_size\":512}" || die "no disk"
serve "$IQN" disk
step "serving $DISK${LUNETTE_PLANT:+ with $LUNETTE_PLANT planted}"
socat -u TCP-LISTEN:3261 OPEN:/dev/null || die socat
step "asked to end"
stop_lunette
if [[ $DISK = log ]]; then dmsetup remove --noudevrules --noudevsync cut || die "dmsetup remove"; fi
step ok
