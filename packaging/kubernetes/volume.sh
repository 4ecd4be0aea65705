#!/bin/sh
# volume.sh create NAME BYTES ADDRESS:PORT INITIATOR | delete NAME - a disk of lunette.yaml's daemon.
#
# The calls are SPDK's, and a driver that has a way to the socket makes the same ones: a portal group and a group of
# initiators once, then for each volume a disk and a target of its own. ADDRESS:PORT is where initiators come to: that of the
# Service. Everything that is made is kept by the daemon (--config) and is there again after a restart.
set -eu
rpc() { ${KUBECTL:-kubectl} exec deploy/lunette -- /lunette rpc --socket /run/lunette/rpc.sock "$@"; }
name=$2
iqn=iqn.2026-11.io.lunette:$name
case $1 in
  create)
    bytes=$3 portal=$4 initiator=$5
    case $(rpc iscsi_get_portal_groups) in *'"tag": 1'*) ;; *)
      rpc iscsi_create_portal_group "{\"tag\":1,\"portals\":[{\"host\":\"0.0.0.0\",\"port\":\"3260\",\"lunette_advertise\":\"$portal\"}]}" ;;
    esac
    tag=$(printf '%s' "$name" | cksum | cut -d' ' -f1)
    rpc bdev_aio_create "{\"name\":\"$name\",\"filename\":\"/var/lib/lunette/$name.img\",\"block_size\":4096,\"lunette_create_size\":$bytes}"
    rpc iscsi_create_initiator_group "{\"tag\":$tag,\"initiators\":[\"$initiator\"],\"netmasks\":[\"ANY\"]}"
    rpc iscsi_create_target_node "{\"name\":\"$iqn\",\"alias_name\":\"$name\",\"queue_depth\":64,
      \"luns\":[{\"bdev_name\":\"$name\",\"lun_id\":0}],\"pg_ig_maps\":[{\"pg_tag\":1,\"ig_tag\":$tag}]}"
    ;;
  delete)
    tag=$(printf '%s' "$name" | cksum | cut -d' ' -f1)
    rpc iscsi_delete_target_node "{\"name\":\"$iqn\"}"
    rpc iscsi_delete_initiator_group "{\"tag\":$tag}"
    # The file stays, for whoever wants the data; delete it on the volume.
    rpc bdev_aio_delete "{\"name\":\"$name\"}"
    ;;
  *) echo "volume.sh create NAME BYTES ADDRESS:PORT INITIATOR | delete NAME" >&2; exit 2 ;;
esac
