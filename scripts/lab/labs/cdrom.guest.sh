# Runs in the guest: a CD-ROM drive of lunette in the guest, at the guest's initiator: mounted as /dev/sr0, locked, ejected, its disc
# changed; and a removable disk, ejected by one and seen by the kernel.
. lablib.sh
IQN=iqn.2026-11.io.lunette:cd PORTAL=127.0.0.1:3260
modprobe -a sr_mod isofs || die "no sr_mod"
mkdir -p /tmp/i /tmp/m
# 50 MB is a CD; the second is beyond 360,000 blocks, so a DVD.
head -c 3M /dev/urandom >/tmp/i/first; head -c 3M /dev/urandom >/tmp/i/second
python3 "$SHARE/iso.py" /tmp/cd.iso HELLO.BIN /tmp/i/first 50 || die "no image"
python3 "$SHARE/iso.py" /tmp/dvd.iso OTHER.BIN /tmp/i/second 800 || die "no image"
start_lunette
rpc lunette_cdrom_create '{"name":"cd","filename":"/tmp/cd.iso"}' >/dev/null || die "no drive"
rpc bdev_malloc_create '{"name":"zip","num_blocks":65536,"block_size":512,"lunette_removable":true}' >/dev/null || die "no disk"
serve "$IQN" cd zip
start_iscsid
discover "$PORTAL" >/dev/null || die discovery
login "$IQN" "$PORTAL" >/dev/null || die login
is_there() { [[ -b /dev/sr0 ]] && has_disk 1; }
until_true 20 is_there || die "no /dev/sr0"
zip=/dev/$(disk_of 1)
# Who opens /dev/sdX locks it; who opens its sg device does not.
sg=$(echo "/sys/block/${zip##*/}/device/scsi_generic/sg"*); sg=/dev/${sg##*/}
reads() { # FILE NAME: what is mounted holds it
  mount -t iso9660 -o ro /dev/sr0 /tmp/m && cmp "$1" "/tmp/m/$2"
}

try "sg_inq" 0 'Peripheral device type: cd/dvd' 'LUNETTE' 'RMB=1' -- sg_inq /dev/sr0
try "sg_readcap" 0 'Logical block length=2048' 'Last LBA=25599' -- sg_readcap /dev/sr0
try "sg_get_config" 0 'CD-ROM' 'Random readable' 'Removable media' -- sg_get_config /dev/sr0
try "sg_opcodes" 0 'Read TOC' 'Get configuration' 'Get event status' -- sg_opcodes /dev/sr0
try "mode page 2Ah" 0 'MM capabilities' -- sg_modes -p 0x2a /dev/sr0
try "READ TOC" 0 '00 12 01 01 00 14 01 00 +00 00 00 00 00 14 aa 00' -- sg_raw -r 20 /dev/sr0 43 00 00 00 00 00 00 00 14 00
try "the kernel's view" 0 'drive speed:\s+50' 'Can close tray:\s+1' 'Can open tray:\s+1' 'Can lock tray:\s+1' 'Can read DVD:\s+1' -- cat /proc/sys/dev/cdrom/info
check "every block is read" cmp /tmp/cd.iso /dev/sr0
check "the first disc is mounted, and is what it was" reads /tmp/i/first hello.bin
if rpc lunette_bdev_load '{"name":"cd","filename":"/tmp/dvd.iso"}' >/tmp/said 2>&1; then bad "the disc went though it is mounted"; else ok "a mounted disc is locked"; fi
check "it is there still" cmp /tmp/i/first /tmp/m/hello.bin
try "the wish is told" 0 '00 06 04 52 01 02' -- sg_raw -r 8 /dev/sr0 4a 01 00 00 10 00 00 00 08 00
umount /tmp/m || bad umount
check "eject" sg_start --eject /dev/sr0
try "no medium, the tray is open" 2 'Not Ready|not ready' -- sg_turs -v /dev/sr0
check "another disc" rpc lunette_bdev_load '{"name":"cd","filename":"/tmp/dvd.iso"}'
try "sg_get_config of the other" 0 'DVD-ROM' -- sg_get_config /dev/sr0
check "the second disc is mounted, and is what it was" reads /tmp/i/second other.bin
[[ $(</sys/block/sr0/size) = 1638400 ]] && ok "its size" || bad "its size: $(</sys/block/sr0/size)"
umount /tmp/m || bad umount

# --- the removable disk
step "a removable disk"
[[ $(<"/sys/block/${zip##*/}/removable") = 1 ]] && ok "removable" || bad "not removable"
check "mkfs" mkfs.ext4 -q "$zip"
mount "$zip" /tmp/m || bad mount
head -c 1M /dev/urandom >/tmp/m/file; sum=$(sha256sum </tmp/m/file)
try "it is locked while it is mounted" 5 'Medium removal prevented|Illegal request' -- sg_start --eject "$sg"
umount /tmp/m
check "eject" sg_start --eject "$sg"
try "no medium" 2 -- sg_turs "$sg"
check "load" sg_start --load "$sg"
mount "$zip" /tmp/m || bad "mount again"
[[ $(sha256sum </tmp/m/file) = "$sum" ]] && ok "what was written is there" || bad "the file differs"
umount /tmp/m
iscsiadm -m session -u >/dev/null || bad logout
stop_lunette
finish
