# Runs in the guest: the kernel's own NVMe/TCP target on port 4420, until somebody connects to port 4421.
#   NQN: its subsystem, with namespace 1 of 512-byte blocks and 2 of 4096-byte blocks, both in RAM; it is open to every host.
#   NQN:closed has the same first disk and is open to nobody.
. lablib.sh
modprobe null_blk nr_devices=0 || die "no null_blk"
nvmet_begin
config=/sys/kernel/config

ram_disk() { # NAME MIB BLOCK_BYTES
  local dir=$config/nullb/$1
  mkdir "$dir" || die "no null_blk device $1"
  echo 1 >"$dir/memory_backed"; echo "$2" >"$dir/size"; echo "$3" >"$dir/blocksize"; echo 1 >"$dir/discard"
  echo 1 >"$dir/power" || die "null_blk device $1 has no power"
}
ram_disk lab512 64 512
ram_disk lab4096 64 4096
nvmet_subsystem "$NQN" /dev/lab512 /dev/lab4096
nvmet_subsystem "$NQN:closed" /dev/lab512
echo 0 >"$nvmet/subsystems/$NQN:closed/attr_allow_any_host"
nvmet_port 0.0.0.0
socat -u TCP-LISTEN:4421 - >/dev/null & end=$!
nvmet_open "$NQN"
nvmet_open "$NQN:closed"
step "nvmet serves $NQN"
wait "$end" || die "socat"
if dmesg | grep -E 'BUG|WARNING:|nvmet.*(fatal|fail)'; then echo "the kernel complained"; fi
step ok
