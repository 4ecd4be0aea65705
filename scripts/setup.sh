#!/usr/bin/env bash
# setup.sh - hand NVMe controllers to lunette and back to the kernel. Needs root for all but `status`.
#
#   setup.sh status                what there is: controllers, their drivers and users, IOMMU, hugepages
#   setup.sh bind ADDRESS...       to vfio-pci; without an IOMMU to uio_pci_generic (then: serve --unsafe-noiommu)
#   setup.sh reset ADDRESS...      back to the kernel's nvme driver; `unbind` is the same
#   setup.sh hugepages COUNT       reserve that many pages of 2 MiB
#
# ADDRESS as 0000:01:00.0 or 01:00.0. A controller whose disks are mounted or in use is never taken. Nothing of this
# outlives a reboot.
set -euo pipefail

sys=/sys devices=/sys/bus/pci/devices pages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
fail() { echo "setup: $*" >&2; exit 1; }
need_root() { [[ $(id -u) = 0 ]] || fail "this needs root"; }

first_line() { # FILE: nothing where it cannot be read
  local line=
  [[ ! -r $1 ]] || read -r line <"$1" || true
  echo "$line"
}

driver_of() { # ADDRESS
  [[ ! -e $devices/$1/driver ]] || basename "$(readlink "$devices/$1/driver")"
}

group_of() { # ADDRESS
  [[ ! -e $devices/$1/iommu_group ]] || basename "$(readlink "$devices/$1/iommu_group")"
}

controllers() { # addresses of all NVMe controllers
  local device class
  for device in "$devices"/*; do
    class=$(first_line "$device/class")
    [[ $class != 0x0108* ]] || basename "$device"
  done
}

controller() { # WORD: its address, checked
  local address=${1,,}
  [[ $address != [0-9a-f][0-9a-f]:* ]] || address=0000:$address
  [[ $address =~ ^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]] || fail "$1 is no PCI address, such as 0000:01:00.0"
  [[ -e $devices/$address ]] || fail "there is no device $address"
  [[ $(first_line "$devices/$address/class") = 0x0108* ]] || fail "$address is no NVMe controller"
  echo "$address"
}

disks_of() { # ADDRESS: block devices of its namespaces; a path nvme0c1n1 stands for the disk nvme0n1
  local disk
  for disk in "$devices/$1"/nvme/nvme*/nvme*n*; do
    [[ -e $disk ]] || continue
    disk=${disk##*/}
    [[ ! $disk =~ ^(nvme[0-9]+)c[0-9]+(n[0-9]+)$ ]] || disk=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    [[ $disk =~ ^nvme[0-9]+n[0-9]+$ ]] && echo "$disk"
  done | sort -u
}

users_of() { # DISK: what it is used for, a line each
  local disk=$1 part directory number mounted source point name holder fd found=
  for directory in "$sys/block/$disk" "$sys/block/$disk/$disk"*; do
    [[ -e $directory/dev ]] || continue
    part=${directory##*/} number=$(first_line "$directory/dev")
    while read -r _ _ mounted _ point _; do
      [[ $mounted != "$number" ]] || { echo "$part is mounted at $point"; found=1; }
    done </proc/self/mountinfo
    # File systems on several devices have a number of their own.
    while read -r source point _; do
      [[ $source != "/dev/$part" ]] || [[ -n $found ]] || { echo "$part is mounted at $point"; found=1; }
    done </proc/self/mounts
    for name in "$sys"/fs/btrfs/*/devices/"$part"; do
      [[ ! -e $name ]] || { echo "$part belongs to a btrfs"; found=1; }
    done
    while read -r name _; do
      [[ $name != "/dev/$part" ]] || { echo "$part is swap"; found=1; }
    done </proc/swaps
    for holder in "$directory"/holders/*; do
      [[ -e $holder ]] || continue
      name=$(first_line "$holder/dm/name")
      echo "$part is part of ${name:-${holder##*/}}"
      found=1
    done
  done
  [[ -z $found ]] || return 0
  for fd in /proc/[0-9]*/fd/*; do
    name=$(readlink "$fd" 2>/dev/null) || continue
    [[ $name =~ ^/dev/$disk(p[0-9]+)?$ ]] || continue
    name=${fd#/proc/}
    echo "process ${name%%/*} has $disk open"
    return 0
  done
  # Who leaves no trace at all (ZFS) has claimed it: the kernel then does not read its partitions anew.
  if [[ $(id -u) = 0 ]] && blockdev --rereadpt "/dev/$disk" 2>&1 | grep -qi busy; then
    echo "$disk is in use"
  fi
}

in_use() { # ADDRESS: why it must not be taken, a line each
  local disk
  while read -r disk; do users_of "$disk"; done < <(disks_of "$1")
}

process_with() { # ADDRESS: the process that drives it by itself
  local group path fd
  group=$(group_of "$1")
  for fd in /proc/[0-9]*/fd/*; do
    path=$(readlink "$fd" 2>/dev/null) || continue
    [[ -n $group && $path = "/dev/vfio/$group" ]] || continue
    fd=${fd#/proc/}
    echo "${fd%%/*}"
    return
  done
  { grep -lF "/$1/resource0" /proc/[0-9]*/maps 2>/dev/null || true; } | sed -n '1s|/proc/\([0-9]*\)/maps|\1|p'
}

has_iommu() { compgen -G "$sys/kernel/iommu_groups/*" >/dev/null; }

status() {
  local address group users process
  if has_iommu; then echo "IOMMU: on"; else
    echo "IOMMU: none (VT-d or AMD-Vi in the firmware, intel_iommu=on on the kernel's command line)"
  fi
  echo "hugepages of 2 MiB: $(first_line "$pages") reserved, $(first_line "${pages%/*}/free_hugepages") free"
  for address in $(controllers); do
    group=$(group_of "$address") users=$(in_use "$address" | paste -sd';' | sed 's/;/; /g') process=$(process_with "$address")
    [[ -z $process ]] || users="process $process drives it"
    printf '%s  driver %-15s  IOMMU group %-4s  disks %-20s  %s\n' "$address" "$(driver_of "$address" | grep . || echo none)" "${group:--}" \
      "$(disks_of "$address" | paste -sd' ' | grep . || echo -)" "${users:-free}"
  done
}

hand_over() { # ADDRESS DRIVER: the empty driver is whichever the kernel would choose
  local address=$1 driver=$2 device=$devices/$1
  [[ ! -e $device/driver ]] || echo "$address" >"$device/driver/unbind"
  echo "$driver" >"$device/driver_override"
  echo "$address" >"$sys/bus/pci/drivers_probe" || true
}

other_obstacles() { # ADDRESS: devices of its group that keep VFIO from it
  local other driver
  for other in "$devices/$1"/iommu_group/devices/*; do
    other=${other##*/}
    driver=$(driver_of "$other")
    case $other/$driver in "$1"/* | */ | */vfio-pci | */pci-stub | */pcieport) ;; *) echo "$other ($driver)" ;; esac
  done
}

bind() { # ADDRESS
  local address=$1 driver=vfio-pci now users obstacles
  [[ -n $(group_of "$address") ]] || driver=uio_pci_generic
  now=$(driver_of "$address")
  [[ $now != "$driver" ]] || { echo "$address has the driver $driver already"; return; }
  users=$(in_use "$address")
  [[ -z $users ]] || fail "$address is in use and stays with the kernel: $(paste -sd';' <<<"$users")"
  modprobe "$driver" || fail "the kernel has no $driver"
  hand_over "$address" "$driver"
  if [[ $(driver_of "$address") != "$driver" ]]; then
    hand_over "$address" ""
    fail "$address does not go to $driver; the kernel has it back (see dmesg)"
  fi
  echo "$address: ${now:-no driver} -> $driver"
  if [[ $driver = vfio-pci ]]; then
    obstacles=$(other_obstacles "$address" | paste -sd' ')
    [[ -z $obstacles ]] || echo "setup: $address cannot be used before these of its IOMMU group leave their drivers: $obstacles" >&2
  else
    echo "setup: there is no IOMMU: lunette needs --unsafe-noiommu, and the device can then overwrite any memory" >&2
  fi
}

reset() { # ADDRESS
  local address=$1 now process
  now=$(driver_of "$address")
  [[ $now != nvme ]] || { echo "$address has the driver nvme already"; return; }
  process=$(process_with "$address")
  [[ -z $process ]] || fail "process $process drives $address: end it first"
  modprobe nvme || true
  hand_over "$address" ""
  [[ $(driver_of "$address") = nvme ]] || fail "$address does not go back to nvme (see dmesg)"
  echo "$address: ${now:-no driver} -> nvme"
}

hugepages() { # COUNT
  local got
  [[ $1 =~ ^[0-9]+$ ]] || usage
  [[ -e $pages ]] || fail "this kernel has no hugepages of 2 MiB"
  echo "$1" >"$pages"
  got=$(first_line "$pages")
  ((got >= $1)) || fail "the kernel has memory for $got of $1 hugepages only: free some, or reserve them at boot (hugepages=$1)"
  echo "hugepages of 2 MiB: $got reserved"
}

command=${1:-}
[[ $# -eq 0 ]] || shift
case $command in
  status)
    [[ $# -eq 0 ]] || usage
    status ;;
  bind | reset | unbind)
    [[ $# -ge 1 ]] || usage
    need_root
    [[ $command != unbind ]] || command=reset
    addresses=()
    for word; do addresses+=("$(controller "$word")"); done
    for address in "${addresses[@]}"; do "$command" "$address"; done ;;
  hugepages)
    [[ $# -eq 1 ]] || usage
    need_root
    hugepages "$1" ;;
  *) usage ;;
esac
