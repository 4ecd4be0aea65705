# Runs in the guest: the kernel's own NVMe/TCP target on port 4420, until somebody connects to port 4421.
#   NQN: its subsystem, with namespace 1 of 512-byte blocks and 2 of 4096-byte blocks, both in RAM; it is open to every host.
#   NQN:closed has the same first disk and is open to nobody.
. lablib.sh
modprobe -a nvmet nvmet_tcp && modprobe null_blk nr_devices=0 || die "this kernel has no nvmet"
mount -t configfs configfs /sys/kernel/config 2>/dev/null
config=/sys/kernel/config

ram_disk() { # NAME MIB BLOCK_BYTES
  local dir=$config/nullb/$1
  mkdir "$dir" || die "no null_blk device $1"
  echo 1 >"$dir/memory_backed"; echo "$2" >"$dir/size"; echo "$3" >"$dir/blocksize"; echo 1 >"$dir/discard"
  echo 1 >"$dir/power" || die "null_blk device $1 has no power"
}
namespace() { # SUBSYSTEM NUMBER DEVICE
  local dir=$config/nvmet/subsystems/$1/namespaces/$2
  mkdir "$dir" && echo -n "$3" >"$dir/device_path" && echo 1 >"$dir/enable" || die "no namespace $2 of $1"
}
subsystem() { # NQN
  mkdir "$config/nvmet/subsystems/$1" || die "no subsystem $1"
}

ram_disk lab512 64 512
ram_disk lab4096 64 4096
subsystem "$NQN"
echo 1 >"$config/nvmet/subsystems/$NQN/attr_allow_any_host"
namespace "$NQN" 1 /dev/lab512
namespace "$NQN" 2 /dev/lab4096
subsystem "$NQN:closed"
namespace "$NQN:closed" 1 /dev/lab512

port=$config/nvmet/ports/1
mkdir "$port"
echo tcp >"$port/addr_trtype"; echo ipv4 >"$port/addr_adrfam"; echo 0.0.0.0 >"$port/addr_traddr"; echo 4420 >"$port/addr_trsvcid"
socat -u TCP-LISTEN:4421 - >/dev/null & end=$!
ln -s "$config/nvmet/subsystems/$NQN" "$port/subsystems/" || die "no port"
ln -s "$config/nvmet/subsystems/$NQN:closed" "$port/subsystems/" || die "no port"
step "nvmet serves $NQN"
wait "$end" || die "socat"
if dmesg | grep -E 'BUG|WARNING:|nvmet.*(fatal|fail)'; then echo "the kernel complained"; fi
step ok
