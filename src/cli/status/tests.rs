//! One screen, literally.

use super::*;

#[test]
fn sizes_are_as_people_say_them() {
    for (bytes, expected) in [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1 << 30, "1 GiB"),
        ((1 << 40) + (1 << 39), "1.5 TiB"),
        (u64::MAX, "16383.9 PiB"),
    ] {
        assert_eq!(size(bytes), expected);
    }
}

fn seen() -> Seen {
    let parse = |text: &str| array(Json::parse(text).unwrap());
    Seen {
        version: object! { "version": "lunette v0" },
        targets: parse(
            r#"[{"name":"iqn.2016-06.io.spdk:t","luns":[{"lun_id":4,"bdev_name":"A"}],"pg_ig_maps":[{"pg_tag":1,"ig_tag":1}]},
                {"name":"iqn.2016-06.io.spdk:u","luns":[{"lun_id":0,"bdev_name":"C"},{"lun_id":1,"bdev_name":"D"}],
                 "pg_ig_maps":[],"lunette_draining":true}]"#,
        ),
        bdevs: parse(
            r#"[{"name":"A","num_blocks":2048,"block_size":512},
                {"name":"B","num_blocks":8,"block_size":512},
                {"name":"C","num_blocks":0,"block_size":2048,"lunette_removable":{"medium":"out"}},
                {"name":"D","num_blocks":0,"block_size":512},
                {"name":"N","num_blocks":8,"block_size":512},
                {"name":"M","num_blocks":8,"block_size":512,"claimed":true,"driver_specific":{"raid":{
                  "base_bdevs_list":[{"name":"E","lunette_state":"current"},{"name":"F","lunette_state":"out"},
                                     {"name":"G","lunette_state":"filling"}],
                  "process":{"target":"G","progress":{"percent":7}}}}}]"#,
        ),
        counts: parse(
            r#"[{"name":"A","num_read_ops":3,"bytes_read":1536,"num_write_ops":1,"bytes_written":4096,"io_error":{"IO_ERROR":2}}]"#,
        ),
        limited: Vec::new(),
        connections: parse(
            r#"[{"session":1,"target_name":"iqn.2016-06.io.spdk:t","initiator_name":"a"},
                {"session":1,"target_name":"iqn.2016-06.io.spdk:t","initiator_name":"a"},
                {"session":null,"target_name":"","initiator_name":""}]"#,
        ),
        units: parse(
            r#"[{"bdev_name":"A","busy":{"with":"SANITIZE","percent":42}},{"bdev_name":"B","ports":[]},
                {"bdev_name":"D","ports":[{"target":"iqn.2016-06.io.spdk:u","pg_tag":1}]},
                {"bdev_name":"N","ports":[{"target":"iqn.2016-06.io.spdk:t","pg_tag":1},{"target":"iqn.2016-06.io.spdk:t","pg_tag":2},
                                          {"target":"iqn.2016-06.io.spdk:u","pg_tag":1}]}]"#,
        ),
    }
}

#[test]
fn one_screen_says_what_is_served_and_what_is_wrong() {
    assert_eq!(
        status_text(&seen()),
        "\
lunette v0

TARGET                 LUNS  PORTAL GROUPS  SESSIONS
iqn.2016-06.io.spdk:t  1     1              1
iqn.2016-06.io.spdk:u  2                    0

DISK  SIZE   LUN  READS  READ     WRITES  WRITTEN  ERRORS
A     1 MiB  t/4  3      1.5 KiB  1       4 KiB    2
B     4 KiB  -    0      0 B      0       0 B      0
C     0 B    u/0  0      0 B      0       0 B      0
D     0 B    u/1  0      0 B      0       0 B      0
N     4 KiB  t u  0      0 B      0       0 B      0
M     4 KiB  -    0      0 B      0       0 B      0

! A: 2 IOs failed since they were counted (bdev_reset_iostat counts anew)
! B: nobody can reach it, it is no LUN of a target
! D: not ready, its file or device is missing; it comes up when that does
! M: its member F is out, the others go on without (bdev_raid_add_base_bdev fills it where it was taken out, lunette_bdev_reopen where its disk was pulled; else it is filled by itself)
! M: its member G is being filled, 7 % done
! A: busy with SANITIZE, 42 % done: nobody reads or writes until then
! iqn.2016-06.io.spdk:u: nobody new can log in, it is drained ('lunette drain --undo iqn.2016-06.io.spdk:u' ends that)
! iqn.2016-06.io.spdk:u: nobody can log in, it has no portal group
"
    );
}

#[test]
fn connections_of_a_session_are_counted() {
    let sessions = sessions(&seen().connections);
    assert_eq!(sessions.len(), 1);
    assert_eq!(number(&sessions[0], "connections"), 2);
}
