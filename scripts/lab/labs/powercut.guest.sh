# Runs in the guest: lunette serves one disk to the host until the host connects to port 3261, or cuts the power.
#   DISK=log: the drive "labdata" below dm-log-writes, which logs to the drive "lablog"
#   DISK=nvmet: the same under the kernel's NVMe/TCP target, of which lunette is the host
#   DISK=nvme: the NVMe controller at ADDRESS, whose writes QEMU logs
#   DISK=file: a sparse file of FILE_MIB on an ext4 on "labdata"; what is not synced is in the guest's memory only
#   IQN: the target's name; CREATE: more parameters of the disk; LUNETTE_PLANT: the bug planted in a test build
. lablib.sh
NQN=nqn.2026-11.io.lunette:cut
case $DISK in
  log | nvmet)
    data=$(drive labdata) && log=$(drive lablog) || exit 1
    modprobe -a dm_mod dm_log_writes || die "no dm-log-writes"
    cut=$(mapped cut "0 $(blockdev --getsz "$data") log-writes $data $log") || die "$cut"
    create="\"filename\":\"$cut\"" ;;
  file)
    data=$(drive labdata) || exit 1
    # The journal commits by itself only after the whole test: so long nothing but a sync makes metadata durable.
    mkdir -p /tmp/d; mount -o commit=600 "$data" /tmp/d || die mount
    create="\"filename\":\"/tmp/d/disk.img\",\"lunette_create_size\":$((FILE_MIB << 20))" ;;
  nvme) "$SHARE/setup.sh" bind "$ADDRESS" || die bind ;;
  *) die "DISK=$DISK" ;;
esac
if [[ $DISK = nvmet ]]; then
  nvmet_begin
  nvmet_subsystem "$NQN" "$cut"
  nvmet_port 127.0.0.1
  nvmet_open "$NQN"
fi
start_lunette ${SWITCHES:-}
case $DISK in
  nvme) rpc bdev_nvme_attach_controller "{\"name\":\"disk\",\"trtype\":\"PCIe\",\"traddr\":\"$ADDRESS\"}" || die "no disk" ;;
  nvmet) rpc bdev_nvme_attach_controller "{\"name\":\"disk\",\"trtype\":\"TCP\",\"traddr\":\"127.0.0.1\",\"subnqn\":\"$NQN\"}" || die "no disk" ;;
  *) rpc bdev_aio_create "{\"name\":\"disk\",$CREATE$create,\"block_size\":512}" || die "no disk" ;;
esac
case $DISK in nvme | nvmet) bdev=diskn1 ;; *) bdev=disk ;; esac
serve "$IQN" "$bdev"
step "serving $DISK${LUNETTE_PLANT:+ with $LUNETTE_PLANT planted}"
socat -u TCP-LISTEN:3261 OPEN:/dev/null || die socat
step "asked to end"
stop_lunette
if [[ $DISK = nvmet ]]; then
  nvmet_shut "$NQN"
  echo 0 >"$nvmet/subsystems/$NQN/namespaces/1/enable" || die "the namespace stays"
fi
if [[ $DISK = log || $DISK = nvmet ]]; then dmsetup remove --noudevrules --noudevsync cut || die "dmsetup remove"; fi
step ok
