#!/bin/sh
# Two hosts, two disks: each host sees its own target with a disk of its own and, read and write, a disk that both share.
#
#   lunette serve -r /run/lunette.sock &
#   scripts/rpc/two-luns-two-hosts.sh /run/lunette.sock iqn.1993-08.org.debian:01:aaaa iqn.1993-08.org.debian:01:bbbb
#
# A shared disk needs a file system made for it (OCFS2, GFS2, VMFS), or reservations: ext4 or XFS on two hosts is lost.
# PORTAL=192.0.2.10:3260 serves it to the network, 127.0.0.1:3260 unless given; NETMASK=192.0.2.0/24 says from where.
set -eu
socket=$1
portal=${PORTAL:-127.0.0.1:3260}
netmask=${NETMASK:-ANY}
rpc() { "${LUNETTE:-lunette}" rpc -s "$socket" "$@"; }

rpc iscsi_create_portal_group "{\"tag\":1,\"portals\":[{\"host\":\"${portal%:*}\",\"port\":\"${portal##*:}\"}]}"
rpc bdev_malloc_create '{"name":"shared","num_blocks":131072,"block_size":4096}'

number=0
for host in "$2" "$3"; do
  number=$((number + 1))
  rpc bdev_malloc_create "{\"name\":\"own$number\",\"num_blocks\":131072,\"block_size\":4096}"
  # Who may come: this host, by its name and from this network. Others are told that there is no such target.
  rpc iscsi_create_initiator_group "{\"tag\":$number,\"initiators\":[\"$host\"],\"netmasks\":[\"$netmask\"]}"
  # LUN 0 is its own disk, LUN 1 the shared one.
  rpc iscsi_create_target_node "{\"name\":\"iqn.2026-11.io.lunette:host$number\",\"alias_name\":\"\",\"queue_depth\":64,
    \"luns\":[{\"bdev_name\":\"own$number\",\"lun_id\":0},{\"bdev_name\":\"shared\",\"lun_id\":1}],
    \"pg_ig_maps\":[{\"pg_tag\":1,\"ig_tag\":$number}]}"
done
