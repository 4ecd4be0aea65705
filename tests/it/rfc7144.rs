//! RFC 7144: what may be asked of tasks, unit attentions and the nexus at iSCSIProtocolLevel 2.

use lunette::bdev::error::{Fault, Kind};
use lunette_initiator::pdu::Pdu;
use lunette_initiator::pdu::request::{ScsiCommand, TmfRequest};
use lunette_initiator::pdu::response::{Response, ScsiResponse};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::socket::Wire;
use lunette_initiator::{Command, Config, Data, Offer, lun};

use crate::harness::{Setup, World, config};

fn wire(world: &World, level: u32) -> (Wire, u32) {
    let offer = Offer { protocol_level: Some(level), ..Offer::usual() };
    let (wire, outcome) = world.wire(&Config { offer, ..config("a") });
    assert_eq!(outcome.params.protocol_level, level.min(2));
    (wire, outcome.exp_cmd_sn.0)
}

/// A function's response code and additional response information.
fn ask(wire: &mut Wire, function: u8, number: u16, referenced_itt: u32, cmd_sn: u32) -> (u8, [u8; 3]) {
    let request = TmfRequest {
        immediate: true,
        function,
        lun: lun::from_number(number),
        itt: 0x700,
        referenced_itt,
        cmd_sn,
        ref_cmd_sn: cmd_sn.wrapping_sub(1),
        ..TmfRequest::default()
    };
    wire.send(&request.with([])).unwrap();
    let pdu = wire.receive().unwrap().expect("an answer");
    assert_eq!((pdu.bhs.0[0], &pdu.bhs.0[16..20]), (0x22, &[0, 0, 7, 0][..]), "{pdu:?}");
    (pdu.bhs.0[2], pdu.bhs.0[8..11].try_into().unwrap())
}

fn command(itt: u32, cmd_sn: u32, command: ScsiCommand) -> Pdu {
    ScsiCommand { final_bit: true, attributes: 1, itt, cmd_sn, ..command }.with([])
}

const QUERY_TASK: u8 = 9;
const QUERY_TASK_SET: u8 = 10;
const NEXUS_RESET: u8 = 11;
const QUERY_EVENT: u8 = 12;

#[test]
fn tasks_and_unit_attentions_are_told_of() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, 2);
    assert_eq!(ask(&mut wire, QUERY_EVENT, 0, 0xffff_ffff, cmd_sn), (7, [0x16, 0x29, 0x00]), "one: 29h/00h");
    assert_eq!(ask(&mut wire, QUERY_EVENT, 9, 0xffff_ffff, cmd_sn).0, 2, "no such LUN");
    wire.send(&command(1, cmd_sn, ScsiCommand { cdb: cdb::test_unit_ready(), ..ScsiCommand::default() }))
        .unwrap();
    let told = wire.receive().unwrap().unwrap();
    assert!(matches!(Response::decode(&told.bhs), Response::Scsi(ScsiResponse { status: 2, .. })));
    assert_eq!(ask(&mut wire, QUERY_EVENT, 0, 0xffff_ffff, cmd_sn + 1), (0, [0; 3]), "it has been told");

    assert_eq!(ask(&mut wire, QUERY_TASK_SET, 0, 0xffff_ffff, cmd_sn + 1).0, 0);
    let rule = world.disks[0].order(Kind::Read, Fault::Hold, 1);
    let read = ScsiCommand {
        read: true,
        expected_bytes: 512,
        cdb: cdb::read_10(0, 1, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    wire.send(&command(2, cmd_sn + 1, read)).unwrap();
    assert_eq!(ask(&mut wire, QUERY_TASK, 0, 2, cmd_sn + 2).0, 7);
    assert_eq!(ask(&mut wire, QUERY_TASK, 0, 3, cmd_sn + 2).0, 0);
    assert_eq!(ask(&mut wire, QUERY_TASK_SET, 0, 0xffff_ffff, cmd_sn + 2).0, 7);
    world.disks[0].faults.release(rule);
    let data = wire.receive().unwrap().unwrap();
    assert_eq!(data.bhs.0[0], 0x25);
    assert_eq!(ask(&mut wire, QUERY_TASK, 0, 2, cmd_sn + 2).0, 0, "it is over");
}

#[test]
fn nexus_reset_ends_the_session_and_the_next_one_is_told() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, 2);
    assert_eq!(ask(&mut wire, NEXUS_RESET, 0, 0xffff_ffff, cmd_sn).0, 0);
    assert_eq!(wire.receive().unwrap(), None);
    world.wait_sessions(0);
    let (mut again, cmd_sn) = self::wire(&world, 2);
    assert_eq!(ask(&mut again, QUERY_EVENT, 0, 0xffff_ffff, cmd_sn), (7, [0x16, 0x29, 0x07]));
}

#[test]
fn below_level_2_they_are_not_supported() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, 1);
    for function in [QUERY_TASK, QUERY_TASK_SET, NEXUS_RESET, QUERY_EVENT] {
        assert_eq!(ask(&mut wire, function, 0, 0xffff_ffff, cmd_sn), (5, [0; 3]));
    }
}

/// At level 2 a command may have a priority, and a status a qualifier: whatever the first is, commands are carried out in the order
/// in which they came; the second says nothing.
#[test]
fn priorities_are_taken_and_decide_nothing() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, 2);
    let mut other = world.client("b");
    let reserve = Command::new(0, cdb::reserve_6(), Data::None);
    assert!(other.run(reserve).unwrap().is_good());
    // The unit attention of the login first, then conflicts, which might say when to come again.
    let mut bytes = Vec::new();
    for itt in 0..16 {
        let priority = u8::try_from(15 - itt).unwrap();
        let ready = ScsiCommand { cdb: cdb::test_unit_ready(), priority, ..ScsiCommand::default() };
        let pdu = command(itt, cmd_sn.wrapping_add(itt), ready);
        assert_eq!(pdu.bhs.0[2], priority << 4);
        bytes.push(pdu);
    }
    // As many as the window holds.
    for chunk in bytes.chunks(8) {
        chunk.iter().for_each(|pdu| wire.send(pdu).unwrap());
        for pdu in chunk {
            let Response::Scsi(end) = Response::decode(&wire.receive().unwrap().unwrap().bhs) else {
                panic!()
            };
            let sent = u32::from_be_bytes(pdu.bhs.0[16..20].try_into().unwrap());
            let expected = if sent == 0 { status::CHECK_CONDITION } else { status::RESERVATION_CONFLICT };
            assert_eq!((end.itt, end.status, end.status_qualifier), (sent, expected, 0));
        }
    }
}
