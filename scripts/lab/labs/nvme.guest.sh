# Runs in the guest, by nvme.sh: controllers are listed, taken, probed, given back.
. lablib.sh
lunette=$SHARE/lunette setup=$SHARE/setup.sh driver=vfio-pci unsafe=
[[ $WORLD != bare ]] || { driver=uio_pci_generic unsafe=--unsafe-noiommu; }

disk_of() { # ADDRESS NSID: the kernel's block device of it
  local disk
  for disk in /sys/bus/pci/devices/"$1"/nvme/nvme*/nvme*n*; do
    [[ -e $disk ]] || continue
    disk=${disk##*/}
    [[ $disk =~ ^(nvme[0-9]+)(c[0-9]+)?n[0-9]+$ ]] && [[ $(<"/sys/block/${BASH_REMATCH[1]}n$2/nsid") = "$2" ]] && { echo "/dev/${BASH_REMATCH[1]}n$2"; return; }
  done
  return 1
}
has_disk() { disk_of "$@" >/dev/null; }
hash_of() { # ADDRESS NSID: of its first 4 MiB, by the kernel's driver
  head -c 4M "$(disk_of "$1" "$2")" | sha256sum | cut -d' ' -f1
}
probe() { "$lunette" nvme probe $unsafe "$1"; } # ADDRESS

modprobe nvme || die "no nvme driver"
until_true 20 has_disk "$FIRST" 2 && until_true 20 has_disk "$SECOND" 1 || die "the kernel's driver has no disks"
one=$(hash_of "$FIRST" 1) two=$(hash_of "$FIRST" 2) other=$(hash_of "$SECOND" 1)

step "the kernel has them"
try list 0 "^$FIRST +1b36:0010 +nvme .*LUNETTEA +nvme[0-9]n1 nvme[0-9]n2 +no$" "^$SECOND .*LUNETTEB" -- "$lunette" nvme list
try status 0 "^$FIRST +driver nvme .* free$" -- "$setup" status
try "a probe of what the kernel has is refused" 1 'setup.sh bind' -- "$lunette" nvme probe "$FIRST"
try "without an IOMMU too" 1 'belongs to the driver nvme.*setup.sh bind' -- "$lunette" nvme probe --unsafe-noiommu "$FIRST"

step "what is in use is not taken"
disk=$(disk_of "$FIRST" 2) && mkdir /tmp/mnt && mkfs.ext4 -q "$(disk_of "$SECOND" 1)" || die mkfs
other=$(hash_of "$SECOND" 1)
mount "$(disk_of "$SECOND" 1)" /tmp/mnt || die mount
try "a mounted disk" 1 'is in use and stays with the kernel: nvme[0-9]n1 is mounted at /tmp/mnt' -- "$setup" bind "$SECOND"
try "a mounted disk is listed" 0 "^$SECOND .*nvme[0-9]n1 is mounted at /tmp/mnt" -- "$lunette" nvme list
umount /tmp/mnt || die umount
other=$(hash_of "$SECOND" 1)
held=$(mapped held "0 8 linear $disk 0")
try "a disk of the device mapper" 1 'nvme[0-9]n2 is part of held' -- "$setup" bind "$FIRST"
try "a disk of the device mapper is listed" 0 "^$FIRST .*nvme[0-9]n2 is part of held" -- "$lunette" nvme list
dmsetup remove --noudevrules --noudevsync held || die "$held stays"
sleep 60 <"$disk" & sleeper=$!
try "a disk that a process has open" 1 "process $sleeper has nvme[0-9]n2 open" -- "$setup" bind "$FIRST"
kill "$sleeper"; wait "$sleeper"

step "taken"
try bind 0 "^$FIRST: nvme -> $driver" "^$SECOND: nvme -> $driver" -- "$setup" bind "$FIRST" "${SECOND#0000:}"
try "bind again" 0 'already' -- "$setup" bind "$FIRST"
try "list" 0 "^$FIRST +1b36:0010 +$driver .* no$" -- "$lunette" nvme list
try "list as JSON" 0 "\"driver\": *\"$driver\"" -- "$lunette" nvme list --json
try "two namespaces" 0 'model "QEMU NVMe Ctrl", serial "LUNETTEA"' 'namespace 1: 65536 blocks of 512 bytes' 'namespace 2: 8192 blocks of 4096 bytes' \
  '^doorbells in memory$' \
  "namespace 1: 4194304 bytes .* SHA-256 $one" "namespace 2: .* SHA-256 $two" '^shut down$' -- probe "$FIRST"
try "short commands" 0 'serial "LUNETTEB"' 'MDTS 3' "SHA-256 $other" '^shut down$' -- probe "$SECOND"
try "again" 0 "SHA-256 $one" -- probe "$FIRST"
if [[ $WORLD = bare ]]; then
  try "without --unsafe-noiommu" 1 'setup.sh bind' -- "$lunette" nvme probe "$FIRST"
  try "the warning" 0 'can overwrite any memory' -- probe "$FIRST"
  echo 0 >/proc/sys/vm/nr_hugepages
  try "without hugepages" 1 'hugepages' -- probe "$FIRST"
  try "hugepages" 0 '32 reserved' -- "$setup" hugepages 32
else
  ulimit -l 64
  try "as somebody who may not lock memory" 1 'locked memory is limited to 0 MiB; raise' -- \
    setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock "$lunette" nvme probe "$FIRST"
  ulimit -l unlimited
fi

step "removed while it is driven"
third=$(basename "$(dirname "$(compgen -G "/sys/bus/pci/devices/$PORT/*/class")")")
if [[ $WORLD = bare ]]; then
  ok "without an IOMMU a device is not to be removed: the mapping of its registers goes"
else
  "$setup" bind "$third" || die "bind $third"
  "$lunette" nvme probe --watch 240 "$third" >/tmp/watched 2>&1 & watching=$!
  until_true 20 grep -qsF vfio "/proc/$watching/maps" || die "no probe: $(cat /tmp/watched)"
  echo "now remove it"
  rc=0; wait "$watching" || rc=$?
  try "the probe notices" 0 'the device is gone' -- cat /tmp/watched
  [[ $rc = 1 ]] && ok "and ends" || bad "and ends: $rc"
  gone() { [[ ! -e /sys/bus/pci/devices/$third ]]; }
  check "the device goes once it was let go" until_true 20 gone
fi

step "given back"
try reset 0 "^$FIRST: $driver -> nvme" -- "$setup" reset "$FIRST"
try unbind 0 "^$SECOND: $driver -> nvme" -- "$setup" unbind "$SECOND"
check "the kernel's driver has its disks" until_true 20 has_disk "$FIRST" 2
check "and the other's" until_true 20 has_disk "$SECOND" 1
[[ $(hash_of "$FIRST" 1) = "$one" && $(hash_of "$FIRST" 2) = "$two" && $(hash_of "$SECOND" 1) = "$other" ]] && ok "nothing was written" || bad "nothing was written"
try "wrong words" 2 'ADDRESS' -- "$setup" bind
try "no such device" 1 'no device' -- "$setup" bind 00:1f.7
try "no controller" 1 'no NVMe controller' -- "$setup" bind 00:00.0
if dmesg | grep -vE '(soft|workqueue) lockup' | grep -E 'DMAR:.*fault|BUG:|Oops'; then bad "the kernel complains"; else ok "the kernel does not complain"; fi
finish
