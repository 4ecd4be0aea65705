#!/bin/sh
# A RAM disk behind CHAP: who logs in has to prove that it knows the secret.
#
#   lunette serve -r /run/lunette.sock &
#   head -c 12 /dev/urandom | base64 > secret; chmod 600 secret     # 16 characters: every initiator takes those
#   scripts/rpc/ram-disk-chap.sh /run/lunette.sock secret
#
# PORTAL=192.0.2.10:3260 serves it to the network; 127.0.0.1:3260 unless given. IPv6: PORTAL='[2001:db8::1]:3260'.
set -eu
socket=$1
secret=$(cat "$2")
portal=${PORTAL:-127.0.0.1:3260}
rpc() { "${LUNETTE:-lunette}" rpc -s "$socket" "$@"; }

# 1 GiB in blocks of 512 bytes. Memory is taken as it is written. Without a uuid it is a new disk each time it is made, as
# the data are gone; with one, initiators take it for the disk they know.
rpc bdev_malloc_create '{"name":"ram0","num_blocks":2097152,"block_size":512}'

# The account, under tag 1. On standard input, as arguments can be seen by everybody on this machine.
printf '{"tag":1,"secrets":[{"user":"host","secret":"%s"}]}' "$secret" | rpc iscsi_create_auth_group -

# Where to listen (portal group 1), and who may come: anybody, from anywhere (initiator group 1).
rpc iscsi_create_portal_group "{\"tag\":1,\"portals\":[{\"host\":\"${portal%:*}\",\"port\":\"${portal##*:}\"}]}"
rpc iscsi_create_initiator_group '{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}'

# The target: by portal group 1 for initiator group 1, CHAP required, with the accounts of group 1.
rpc iscsi_create_target_node '{"name":"iqn.2026-11.io.lunette:ram","alias_name":"RAM disk","queue_depth":64,
  "luns":[{"bdev_name":"ram0","lun_id":0}],"pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],
  "require_chap":true,"chap_group":1}'

# Discovery needs the proof too: else everybody learns the target's name.
rpc iscsi_set_discovery_auth '{"require_chap":true,"chap_group":1}'
