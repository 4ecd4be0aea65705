#!/bin/sh
# An NVMe namespace as LUN 0: lunette drives the controller itself. What is on the disk is served as it is.
#
#   scripts/setup.sh bind 0000:01:00.0
#   lunette serve -m 0,1 -r /run/lunette.sock &
#   scripts/rpc/nvme-disk.sh /run/lunette.sock 0000:01:00.0
#
# PORTAL=192.0.2.10:3260 serves it to the network, 127.0.0.1:3260 unless given; NETMASK=192.0.2.0/24 says to whom.
set -eu
socket=$1 address=$2
portal=${PORTAL:-127.0.0.1:3260}
netmask=${NETMASK:-ANY}
rpc() { "${LUNETTE:-lunette}" rpc -s "$socket" "$@"; }

# A daemon that was started just now takes calls a moment later.
tries=0
until rpc rpc_get_methods >/dev/null 2>&1 || [ $((tries += 1)) -ge 50 ]; do sleep 0.1; done

# Answers with the names of its namespaces: Nvme0n1, Nvme0n2 and so on.
rpc bdev_nvme_attach_controller "{\"name\":\"Nvme0\",\"trtype\":\"PCIe\",\"traddr\":\"$address\"}"

rpc iscsi_create_portal_group "{\"tag\":1,\"portals\":[{\"host\":\"${portal%:*}\",\"port\":\"${portal##*:}\"}]}"
rpc iscsi_create_initiator_group "{\"tag\":1,\"initiators\":[\"ANY\"],\"netmasks\":[\"$netmask\"]}"
rpc iscsi_create_target_node '{"name":"iqn.2026-11.io.lunette:nvme","alias_name":"","queue_depth":64,
  "luns":[{"bdev_name":"Nvme0n1","lun_id":0}],"pg_ig_maps":[{"pg_tag":1,"ig_tag":1}]}'

# To have it again after a restart: lunette rpc -s /run/lunette.sock lunette_save_config '{"filename":"/etc/lunette/config.json"}',
# then lunette serve -c /etc/lunette/config.json; the controller must be bound first.
