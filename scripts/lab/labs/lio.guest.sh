# Runs in the guest: the kernel's own target, LIO, with Debian's targetcli, beside lunette. What lunette exports is loaded by targetcli,
# what targetcli saves is imported by lunette, and the kernel's initiator finds the same disks each time: LUN numbers, INQUIRY, VPD pages
# 80h and 83h, sizes, who may write, who is let in.
#   SHARE: the folder with lunette
. lablib.sh
device=$(drive labflaky) portal=127.0.0.1:3260 mine=iqn.2004-10.com.example:lab-guest other=iqn.2004-10.com.example:other
open=iqn.2026-11.io.lunette:open closed=iqn.2026-11.io.lunette:closed
work=/tmp/lio; mkdir -p "$work" /srv /etc/rtslib-fb-target/{pr,alua,backup}

cat >"$work/view.py" <<'PY'
# What the kernel's initiator has been told of each disk of a target: a line for each.
import glob, os, sys
def read(path, binary=False):
    with open(path, "rb") as file: data = file.read()
    return data if binary else data.decode().strip()
lines = []
for session in glob.glob("/sys/class/iscsi_session/session*"):
    if read(session + "/targetname") != sys.argv[1]: continue
    for disk in glob.glob(session + "/device/target*/*:*:*:*/block/sd*"):
        device = os.path.dirname(os.path.dirname(disk))
        page, own = read(device + "/vpd_pg83", True), []
        rest = page[4:4 + int.from_bytes(page[2:4], "big")]
        while len(rest) > 4:
            one, rest = rest[:4 + rest[3]], rest[4 + rest[3]:]
            # ASSOCIATION 00b: the logical unit's. Type 6h is the group it is in: with LIO all are in the same, 0; lunette has none.
            if one[1] & 0x30 == 0 and one[1] & 0xf != 6: own.append(one.hex())
        lines.append((int(device.rsplit(":", 1)[1]), read(device + "/inquiry", True)[8:36], read(device + "/vpd_pg80", True)[4:], own,
            f"{read(disk + '/size')} x 512, blocks of {read(disk + '/queue/logical_block_size')}, ro {read(disk + '/ro')}"))
for number, names, serial, own, rest in sorted(lines):
    print("lun", number)
    print("  names", names.decode(), sep="\t")
    # The kernel's target sends the zero at the end of a serial number too.
    print("  serial", serial.rstrip(b"\0").decode(), sep="\t")
    for one in own: print("  designator", one, sep="\t")
    print("  disk", rest, sep="\t")
PY

disks() { lsscsi | grep -c ' /dev/sd'; }
account() { # IQN USER SECRET [TARGET-USER TARGET-SECRET]: of the records of that target
  setting "$1" node.session.auth.authmethod CHAP
  setting "$1" node.session.auth.username "$2"; setting "$1" node.session.auth.password "$3"
  setting "$1" node.session.auth.username_in "${4:-}"; setting "$1" node.session.auth.password_in "${5:-}"
}
enter() { # IQN INITIATOR COMMAND...: logged in as that initiator, and out again
  local iqn=$1 who=$2 rc=0; shift 2
  iscsiadm -m node -T "$iqn" -p "$portal" -I "$who" --login >"$work/login" 2>&1 || { cat "$work/login"; return 24; }
  "$@" || rc=$?
  iscsiadm -m node -T "$iqn" -p "$portal" -I "$who" --logout >/dev/null || return 1
  return "$rc"
}
has_disks() { (($(disks) == $1)); }
look() { # IQN COUNT: what is seen of that many disks
  until_true 20 has_disks "$2" || { echo "$(disks) disks, not $2:"; lsscsi; return 1; }
  python3 "$work/view.py" "$1"
}
secrets=(host correct-horse-12 there battery-staple-3)
views() { # FOLDER: what initiators find of all, by file
  local to=$work/$1; mkdir -p "$to"
  iscsiadm -m discovery -t sendtargets -p "$portal" -o nonpersistent -I default 2>&1 | sort >"$to/discovery"
  enter "$open" default look "$open" "$open_luns" >"$to/open" 2>&1 || bad "$1: $open: $(cat "$to/open")"
  account "$closed" "${secrets[@]}"
  enter "$closed" default look "$closed" "$mine_luns" >"$to/closed" 2>&1 || bad "$1: $closed: $(cat "$to/closed")"
  enter "$closed" other look "$closed" "$other_luns" >"$to/other" 2>&1 || bad "$1: $closed as another: $(cat "$to/other")"
  try "$1: a wrong secret is refused" 24 'authorization failure|login failed' -- with_secret wrong-secret-123 battery-staple-3
  try "$1: one who cannot answer for the target is refused" 24 -- with_secret correct-horse-12 wrong-secret-456
  setting "$closed" node.session.auth.authmethod None
  try "$1: without CHAP nobody is let in" 24 -- enter "$closed" default true
  account "$closed" "${secrets[@]}"
  try "$1: nor who has no ACL" 24 -- enter "$closed" stranger true
}
with_secret() { account "$closed" host "$1" there "$2"; enter "$closed" default true; }
same() { # NAME FOLDER FOLDER [FILTER...]: initiators find the same, or the same by what the filter lets through
  local file filter=("${@:4}")
  ((${#filter[@]})) || filter=(cat)
  for file in discovery open closed other; do
    if "${filter[@]}" <"$work/$2/$file" >"$work/a" && "${filter[@]}" <"$work/$3/$file" >"$work/b" && [[ -s $work/a ]] && diff -u --label "$2" --label "$3" "$work/a" "$work/b"; then
      ok "$1: $file"
    else
      bad "$1: $file"
    fi
  done
}
keep() { # FOLDER: the other target is to begin
  cp -r "$work/$1" "/out/view-$1"
}

lio_begin() { # NAME [FILE]: targetcli has read that
  try "$1: targetcli takes it without a complaint" 0 -- targetcli restoreconfig "$2" clear_existing=True || targetcli ls
}
lio_end() { # NAME: saved as NAME.json, and gone
  check "$1: targetcli saves it" targetcli saveconfig "$work/$1.json"
  cp "$work/$1.json" "/out/$1.json"
  check "$1: LIO ends" targetcli clearconfig confirm=True
}
imported() { # NAME FILE.json: lunette serves what comes of it
  try "$1: lunette imports it" 0 -- bash -c "'$SHARE/lunette' import --strict --from lio '$2' >'$work/$1.lunette.json' 2>'/out/$1.report' || { cat '/out/$1.report'; false; }"
  cp "$work/$1.lunette.json" /out/
  "$SHARE/lunette" serve -r "$socket" --idle park --no-save --config "$work/$1.lunette.json" >>/out/lunette.log 2>&1 & lunette=$!
  until_true 30 rpc rpc_get_methods >/dev/null 2>&1 || die "lunette does not start: $(tail -5 /out/lunette.log)"
}
exported() { # NAME: what lunette serves, as NAME.lio.json
  check "$1: saved" rpc lunette_save_config "{\"filename\":\"$work/$1.json\"}"
  try "$1: lunette exports it" 0 -- bash -c "'$SHARE/lunette' export --to lio '$work/$1.json' >'$work/$1.lio.json' 2>'/out/$1.report' || { cat '/out/$1.report'; false; }"
  cp "$work/$1.json" "$work/$1.lio.json" /out/
}
pattern() { head -c 65536 /dev/zero | tr '\0' "$1"; }
writes() { pattern "$2" | dd of="/dev/$(disk_of "$1")" bs=64k oflag=direct iflag=fullblock status=none; } # LUN CHARACTER
holds() { cmp <(dd if="/dev/$(disk_of "$1")" bs=64k count=1 iflag=direct status=none) <(pattern "$2"); } # LUN CHARACTER
once() { until_true 20 has_disk "$1" && "${@:2}"; } # LUN COMMAND...: when it is there

# targetcli asks the system's bus for handlers of TCMU, and ends where there is no bus: here it finds no handlers.
mkdir -p "$work/python/gi/repository"
: >"$work/python/gi/__init__.py"
cat >"$work/python/gi/repository/__init__.py" <<'PY'
class Gio:
    class BusType: SYSTEM = 1
    class DBusProxyFlags: NONE = 0
    def bus_get_sync(*_): return None
PY
export PYTHONPATH=$work/python

step "the initiator, and the names it goes by"
modprobe -a target_core_mod target_core_file target_core_iblock iscsi_target_mod || die "this kernel has no LIO"
mount -t configfs configfs /sys/kernel/config 2>/dev/null
start_iscsid
for who in other stranger; do
  iscsiadm -m iface -I "$who" -o new >/dev/null && iscsiadm -m iface -I "$who" -o update -n iface.initiatorname -v "iqn.2004-10.com.example:$who" >/dev/null || die "no iface $who"
done
for who in default other stranger; do
  for iqn in "$open" "$closed"; do iscsiadm -m node -T "$iqn" -p "$portal,1" -I "$who" -o new >/dev/null || die "no record"; done
done
for iqn in "$open" "$closed"; do setting "$iqn" node.session.initial_login_retry_max 1; done
truncate -s 16M /srv/{a,b,c}.img

step "a configuration of lunette's"
open_luns=3 mine_luns=4 other_luns=2
start_lunette
aio() { rpc bdev_aio_create "{\"name\":\"$1\",\"filename\":\"$2\",\"block_size\":$3,\"readonly\":${4:-false}}"; }
check "a file" aio a /srv/a.img 512
check "a file of 4096-byte blocks" aio b /srv/b.img 4096
check "a file to read only" aio c /srv/c.img 512 true
check "a device" aio d "$device" 512
check "a RAM disk" rpc bdev_malloc_create '{"name":"ram","num_blocks":32768,"block_size":512}'
identity() { rpc lunette_bdev_set_identity "{\"name\":\"$1\",\"serial\":\"$2\",\"naa\":\"$3\"}"; }
check "a UUID as serial number" identity a 0a1b2c3d-0000-4000-8000-00000000000a 60014050a1b2c3d00004000800000000
check "a short serial number" identity b c0ffee 6001405c0ffee0000000000000000000
check "a serial number of which LIO makes no such identifier" identity d SN-1 6001405123456789abcdef0123456789
check "accounts" rpc iscsi_create_auth_group '{"tag":1,"secrets":[{"user":"host","secret":"correct-horse-12","muser":"there","msecret":"battery-staple-3"}]}'
check "an initiator" rpc iscsi_create_initiator_group "{\"tag\":2,\"initiators\":[\"$mine\"],\"netmasks\":[\"ANY\"]}"
check "another" rpc iscsi_create_initiator_group "{\"tag\":3,\"initiators\":[\"$other\"],\"netmasks\":[\"ANY\"]}"
node() { rpc iscsi_create_target_node "{\"name\":\"$1\",\"alias_name\":\"\",\"queue_depth\":64,\"luns\":[$2],\"pg_ig_maps\":[$3]$4}"; }
check "an open target" node "$open" '{"bdev_name":"a","lun_id":0},{"bdev_name":"ram","lun_id":5},{"bdev_name":"b","lun_id":255}' '{"pg_tag":1,"ig_tag":1}'
check "a closed one" node "$closed" '{"bdev_name":"a","lun_id":1},{"bdev_name":"b","lun_id":2},{"bdev_name":"c","lun_id":3},{"bdev_name":"d","lun_id":7}' \
  '{"pg_tag":1,"ig_tag":2},{"pg_tag":1,"ig_tag":3}' ',"require_chap":true,"mutual_chap":true,"chap_group":1'
check "LUNs of its own for the other" rpc lunette_target_node_set_lun_map "{\"name\":\"$closed\",\"ig_tag\":3,\"luns\":[{\"bdev_name\":\"b\",\"lun_id\":0,\"read_only\":true},{\"bdev_name\":\"d\",\"lun_id\":9}]}"
check "something is written" enter "$open" default once 0 writes 0 a
views lunette; keep lunette
exported exported
stop_lunette

step "LIO takes it"
lio_begin exported "$work/exported.lio.json"
views lio; keep lio
# Vendor and product are LIO's, and it makes its identifiers of the serial number: the report said so.
same "as at lunette" lunette lio grep -vE 'names|serial|designator'
chosen() { grep -oE '01030010(60014050a1b2c3d00004000800000000|6001405c0ffee0000000000000000000|6001405123456789abcdef0123456789)|^lun.*|^127.*'; }
same "the NAA identifiers that LIO can have" lunette lio chosen
check "what lunette wrote LIO reads" enter "$open" default once 0 holds 0 a
check "something else is written" enter "$open" default once 0 writes 0 b
lio_end saved

step "and back: lunette takes what LIO has saved"
imported back "$work/saved.json"
views back; keep back
same "as at LIO" lio back
check "what LIO wrote lunette reads" enter "$open" default once 0 holds 0 b
exported again
stop_lunette

step "and LIO once more"
lio_begin again "$work/again.lio.json"
views again; keep again
same "as at lunette" back again
lio_end last

step "a configuration that was made with targetcli"
open_luns=3 mine_luns=3 other_luns=2
cli() { try "targetcli $*" 0 -- targetcli "$@"; }
cli /backstores/fileio create name=disk0 file_or_dev=/srv/new.img size=32M
cli /backstores/fileio create name=big-blocks file_or_dev=/srv/b.img write_back=false
cli /backstores/fileio/big-blocks set attribute block_size=4096
cli /backstores/ramdisk create name=scratch size=16M
cli /backstores/block create name=device dev="$device"
cli /iscsi create "$open"
cli "/iscsi/$open/tpg1/luns" create /backstores/fileio/disk0
cli "/iscsi/$open/tpg1/luns" create /backstores/ramdisk/scratch lun=4
cli "/iscsi/$open/tpg1/luns" create /backstores/fileio/big-blocks lun=200
cli "/iscsi/$open/tpg1" set attribute generate_node_acls=1 demo_mode_write_protect=0 authentication=0 cache_dynamic_acls=1
cli /iscsi create "$closed"
cli "/iscsi/$closed/tpg1" set attribute authentication=1
cli "/iscsi/$closed/tpg1" set parameter MaxOutstandingR2T=8 ImmediateData=No
for store in fileio/disk0 block/device ramdisk/scratch; do cli "/iscsi/$closed/tpg1/luns" create "/backstores/$store"; done
cli "/iscsi/$closed/tpg1/acls" create "$mine"
cli "/iscsi/$closed/tpg1/acls" create "$other" add_mapped_luns=false
cli "/iscsi/$closed/tpg1/acls/$other" create mapped_lun=3 tpg_lun_or_backstore=1 write_protect=1
cli "/iscsi/$closed/tpg1/acls/$other" create mapped_lun=11 tpg_lun_or_backstore=2
for who in "$mine" "$other"; do
  cli "/iscsi/$closed/tpg1/acls/$who" set auth userid=host password=correct-horse-12 mutual_userid=there mutual_password=battery-staple-3
done
views made; keep made
check "something is written at LIO" enter "$open" default once 0 writes 0 c
lio_end made
imported moved "$work/made.json"
views moved; keep moved
same "as at LIO" made moved
check "what LIO wrote lunette reads" enter "$open" default once 0 holds 0 c
stop_lunette
finish
