#!/bin/sh
# A disk that is a file, and a configuration that brings it back when the daemon starts.
#
#   lunette serve -r /run/lunette.sock &
#   scripts/rpc/file-disk.sh /run/lunette.sock /srv/disk.img 10737418240 /etc/lunette/config.json
#   # from now on:
#   lunette serve -r /run/lunette.sock -c /etc/lunette/config.json
#
# PORTAL=192.0.2.10:3260 serves it to the network; 127.0.0.1:3260 unless given.
set -eu
socket=$1 file=$2 bytes=$3 config=$4
portal=${PORTAL:-127.0.0.1:3260}
rpc() { "${LUNETTE:-lunette}" rpc -s "$socket" "$@"; }

# Made where it is not there, sparse: space is taken as it is written and given back when the initiator unmaps. A file
# that is there is used as it is, if it has that size.
rpc bdev_aio_create "{\"name\":\"file0\",\"filename\":\"$file\",\"block_size\":4096,\"lunette_create_size\":$bytes}"

rpc iscsi_create_portal_group "{\"tag\":1,\"portals\":[{\"host\":\"${portal%:*}\",\"port\":\"${portal##*:}\"}]}"
rpc iscsi_create_initiator_group '{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}'
rpc iscsi_create_target_node '{"name":"iqn.2026-11.io.lunette:file","alias_name":"","queue_depth":64,
  "luns":[{"bdev_name":"file0","lun_id":0}],"pg_ig_maps":[{"pg_tag":1,"ig_tag":1}]}'

# Everything as it is now, with the disk's identity: initiators find the same disk after a restart.
rpc lunette_save_config "{\"filename\":\"$config\"}"

# To make it larger later, also while it is in use:
#   truncate -s 20G /srv/disk.img && lunette rpc -s /run/lunette.sock bdev_aio_rescan '{"name":"file0"}'
