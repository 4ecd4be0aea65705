//! Reservations over real sockets: two initiators, two reactors, one disk.

use lunette::bdev::error::{Fault, Kind};
use lunette_initiator::pdu::opcode;
use lunette_initiator::pdu::request::{DataOut, ScsiCommand};
use lunette_initiator::pdu::response::Response;
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::session::{Completion, Event, Function, Tmf};
use lunette_initiator::socket::Wire;
use lunette_initiator::{Client, Command, Config, Data, Offer};

use crate::harness::{SOON, Setup, World, config, pattern, read, sense, test_unit_ready, until, write};

pub(crate) const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
pub(crate) const PREEMPT_AND_ABORT: u8 = 5;
const MOVE: u8 = 7;

const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;

const RESERVATIONS_PREEMPTED: (u8, u8, u8) = (6, 0x2a, 0x03);
const RESERVATIONS_RELEASED: (u8, u8, u8) = (6, 0x2a, 0x04);
pub(crate) const REGISTRATIONS_PREEMPTED: (u8, u8, u8) = (6, 0x2a, 0x05);

/// Keys of the two.
pub(crate) const A: u64 = 0xaaaa_0000_0000_000a;
pub(crate) const B: u64 = 0xbbbb_0000_0000_000b;

fn on_two_reactors() -> World {
    World::start(Setup { reactors: 2, ..Setup::default() })
}

/// Two registered nexuses, on different reactors.
fn pair(world: &World) -> (Client, Client) {
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let placement = world.placement();
    assert_ne!(placement[0], placement[1]);
    good(&out(&mut a, REGISTER, 0, 0, A));
    good(&out(&mut b, REGISTER, 0, 0, B));
    (a, b)
}

pub(crate) fn command(action: u8, kind: u8, key: u64, action_key: u64) -> Command {
    let list = cdb::persistent_reserve_out_list(key, action_key);
    Command::write(0, cdb::persistent_reserve_out(action, kind, 24), list)
}

fn out(client: &mut Client, action: u8, kind: u8, key: u64, action_key: u64) -> Completion {
    client.run(command(action, kind, key, action_key)).unwrap()
}

fn legacy(client: &mut Client, cdb: cdb::Cdb) -> u8 {
    client.run(Command::new(0, cdb, Data::None)).unwrap().status
}

#[track_caller]
pub(crate) fn good(completion: &Completion) {
    assert!(completion.is_good(), "{completion:?}");
}

#[track_caller]
fn conflict(completion: &Completion) {
    assert_eq!(completion.status, status::RESERVATION_CONFLICT, "{completion:?}");
}

/// Tag and status of the response that comes next.
#[track_caller]
fn status_of(wire: &mut Wire) -> (u32, u8) {
    let pdu = wire.receive().unwrap().unwrap();
    let Response::Scsi(response) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
    (response.itt, response.status)
}

#[track_caller]
pub(crate) fn told(client: &mut Client, ua: (u8, u8, u8)) {
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), ua);
    assert!(client.run(test_unit_ready(0)).unwrap().is_good(), "once");
}

/// What PERSISTENT RESERVE IN says, beyond PRGENERATION.
fn report(client: &mut Client, action: u8) -> Vec<u8> {
    let command = Command::read(0, cdb::persistent_reserve_in(action, 1024), 1024);
    let end = client.run(command).unwrap();
    good(&end);
    end.data[4..].to_vec()
}

pub(crate) fn keys(client: &mut Client) -> Vec<u64> {
    let data = report(client, 0);
    let mut keys: Vec<u64> =
        data[4..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn who_registers_and_reserves_is_shown_to_everybody() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    assert_eq!(keys(&mut b), [A, B]);
    good(&out(&mut a, RESERVE, WRITE_EXCLUSIVE, A, 0));
    let held = [0, 0, 0, 16, 0xaa, 0xaa, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, WRITE_EXCLUSIVE, 0, 0];
    assert_eq!(report(&mut b, 1), held);
    let full = report(&mut b, 3);
    // A's descriptor: key, R_HOLDER, type, relative target port, and a TransportID of 56 bytes.
    let at = full.windows(8).position(|bytes| bytes == A.to_be_bytes()).unwrap();
    assert_eq!(full[at + 12..at + 14], [1, WRITE_EXCLUSIVE]);
    assert_eq!(full[at + 18..at + 24], [0, 1, 0, 0, 0, 48]);
    assert_eq!(full[at + 24..at + 28], [0x45, 0, 0, 44]);
    assert!(full[at + 28..].starts_with(b"iqn.2026-11.io.example:a,i,0x"));
    // A descriptor of the other: no holder.
    let at = full.windows(8).position(|bytes| bytes == B.to_be_bytes()).unwrap();
    assert_eq!(full[at + 12..at + 14], [0, 0]);
}

#[test]
fn a_reservation_keeps_others_from_writing_and_an_exclusive_one_from_reading() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    good(&out(&mut a, RESERVE, WRITE_EXCLUSIVE, A, 0));
    conflict(&b.run(write(1, 0, 8)).unwrap());
    good(&b.run(read(0, 8)).unwrap());
    good(&a.run(write(2, 0, 8)).unwrap());
    conflict(&out(&mut b, RESERVE, WRITE_EXCLUSIVE, B, 0));
    conflict(&out(&mut b, RELEASE, WRITE_EXCLUSIVE, A, 0));
    assert_eq!(sense(&out(&mut a, RELEASE, EXCLUSIVE_ACCESS, A, 0)), (5, 0x26, 0x04));
    good(&out(&mut a, RELEASE, WRITE_EXCLUSIVE, A, 0));
    good(&b.run(write(3, 0, 8)).unwrap());
    good(&out(&mut b, RESERVE, EXCLUSIVE_ACCESS, B, 0));
    conflict(&a.run(read(0, 8)).unwrap());
    good(&a.run(test_unit_ready(0)).unwrap());
    // Data of a refused WRITE that are asked for are not: it is refused before.
    conflict(&a.run(write(4, 0, 1024)).unwrap());
    assert!(b.read(0, 8).unwrap() == pattern(3, 0, 8, 512));
}

#[test]
fn registrants_share_and_are_told_of_a_release() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    let mut c = world.client("c");
    good(&out(&mut a, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, A, 0));
    good(&b.run(write(1, 0, 8)).unwrap());
    conflict(&c.run(write(2, 0, 8)).unwrap());
    good(&out(&mut a, RELEASE, WRITE_EXCLUSIVE_REGISTRANTS, A, 0));
    told(&mut b, RESERVATIONS_RELEASED);
    good(&a.run(test_unit_ready(0)).unwrap());
    good(&c.run(test_unit_ready(0)).unwrap());
    good(&c.run(write(3, 0, 8)).unwrap());
}

#[test]
fn clear_tells_the_others() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    good(&out(&mut a, RESERVE, EXCLUSIVE_ACCESS, A, 0));
    conflict(&b.run(write(1, 0, 8)).unwrap());
    good(&out(&mut b, CLEAR, 0, B, 0));
    told(&mut a, RESERVATIONS_PREEMPTED);
    assert!(keys(&mut a).is_empty());
    good(&b.run(write(1, 0, 8)).unwrap());
}

#[test]
fn a_preempted_nexus_is_told_even_at_its_next_login_and_keeps_its_number() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    good(&out(&mut a, RESERVE, WRITE_EXCLUSIVE, A, 0));
    drop(a);
    world.wait_sessions(1);
    assert_eq!(keys(&mut b), [A, B], "registrations survive their session");
    conflict(&b.run(write(1, 0, 8)).unwrap());
    // The same nexus again: it holds what it held.
    let mut a = world.client("a");
    good(&a.run(write(2, 0, 8)).unwrap());
    drop(a);
    world.wait_sessions(1);
    good(&out(&mut b, PREEMPT, WRITE_EXCLUSIVE, B, A));
    assert_eq!(keys(&mut b), [B]);
    let mut a = Client::connect(world.address(), config("a")).unwrap();
    assert_eq!(sense(&a.run(test_unit_ready(0)).unwrap()), (6, 0x29, 0x07));
    told(&mut a, REGISTRATIONS_PREEMPTED);
    conflict(&a.run(write(3, 0, 8)).unwrap());
    assert!(b.read(0, 8).unwrap() == pattern(2, 0, 8, 512));
}

#[test]
fn a_reservation_moves_to_a_nexus_that_has_not_come_yet() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    good(&out(&mut a, RESERVE, WRITE_EXCLUSIVE, A, 0));
    let isid = world.control(|control| {
        let (_, session) = control.sessions().iter().next().unwrap();
        session.nexus.isid
    });
    let isid: String = isid.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut id = format!("iqn.2026-11.io.example:c,i,0x{isid}\0").into_bytes();
    id.resize(id.len().next_multiple_of(4), 0);
    let mut list = cdb::persistent_reserve_out_list(A, 0xcc);
    list[17] = 2;
    list[19] = 1;
    list[20..24].copy_from_slice(&u32::try_from(4 + id.len()).unwrap().to_be_bytes());
    list.extend([0x45, 0]);
    list.extend(u16::try_from(id.len()).unwrap().to_be_bytes());
    list.extend(id);
    let cdb = cdb::persistent_reserve_out(MOVE, 0, u32::try_from(list.len()).unwrap());
    good(&a.run(Command::write(0, cdb, list)).unwrap());
    assert_eq!(keys(&mut b), [0xcc, B]);
    conflict(&a.run(write(1, 0, 8)).unwrap());
    let mut c = world.client("c");
    good(&c.run(write(2, 0, 8)).unwrap());
    good(&out(&mut c, RELEASE, WRITE_EXCLUSIVE, 0xcc, 0));
}

/// REGISTER with SPEC_I_PT, and a TransportID that is a name alone (format 00b).
fn register_by_name(client: &mut Client, name: &str, key: u64) -> Completion {
    let mut id = format!("{name}\0").into_bytes();
    id.resize(id.len().next_multiple_of(4).max(20), 0);
    let mut list = cdb::persistent_reserve_out_list(0, key);
    list[20] = 0x08;
    list.extend(u32::try_from(4 + id.len()).unwrap().to_be_bytes());
    list.extend([0x05, 0]);
    list.extend(u16::try_from(id.len()).unwrap().to_be_bytes());
    list.extend(id);
    let cdb = cdb::persistent_reserve_out(REGISTER, 0, u32::try_from(list.len()).unwrap());
    client.run(Command::write(0, cdb, list)).unwrap()
}

#[test]
fn a_name_alone_registers_each_of_its_ports() {
    let world = on_two_reactors();
    let other_port = Config { isid: [0x80, 1, 2, 3, 4, 5], ..config("b") };
    let (mut a, mut first) = (world.client("a"), world.client("b"));
    let mut second = world.login(other_port);
    assert_eq!(sense(&register_by_name(&mut a, "iqn.2026-11.io.example:nobody", A)), (5, 0x26, 0));
    assert!(keys(&mut a).is_empty(), "nobody is known by that name, and nobody was registered");
    good(&register_by_name(&mut a, "iqn.2026-11.io.example:B", A));
    assert_eq!(keys(&mut a), [A; 3]);
    good(&out(&mut a, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, A, 0));
    good(&first.run(write(1, 0, 8)).unwrap());
    good(&second.run(write(2, 0, 8)).unwrap());
    conflict(&world.client("c").run(write(3, 0, 8)).unwrap());
}

#[test]
fn what_reserve_has_taken_ends_with_its_session_and_with_a_reset() {
    let world = on_two_reactors();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    assert_eq!(legacy(&mut a, cdb::reserve_6()), status::GOOD);
    assert_eq!(legacy(&mut b, cdb::reserve_6()), status::RESERVATION_CONFLICT);
    assert_eq!(legacy(&mut b, cdb::test_unit_ready()), status::RESERVATION_CONFLICT);
    assert_eq!(legacy(&mut b, cdb::release_6()), status::GOOD);
    conflict(&b.run(read(0, 8)).unwrap());
    conflict(&out(&mut a, REGISTER, 0, 0, A));
    drop(a);
    world.wait_sessions(1);
    good(&b.run(read(0, 8)).unwrap());
    assert_eq!(legacy(&mut b, cdb::reserve_6()), status::GOOD);
    let mut a = Client::connect(world.address(), config("a")).unwrap();
    assert_eq!(
        sense(&a.run(read(0, 8)).unwrap()),
        (6, 0x29, 0x07),
        "a unit attention goes before a conflict"
    );
    conflict(&a.run(read(0, 8)).unwrap());
    assert_eq!(a.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    told(&mut a, (6, 0x29, 0x03));
    good(&a.run(write(1, 0, 8)).unwrap());
}

#[test]
fn asks_for_one_unit_are_decided_one_after_the_other() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    // Each waits for the barrier of the one before it.
    let queue: Vec<u32> = (1..=6)
        .map(|key| {
            a.session().command(command(REGISTER, 0, if key == 1 { A } else { key - 1 }, key)).unwrap()
        })
        .collect();
    let preempts: Vec<u32> = (0..3).map(|_| b.session().command(command(6, 0, 0, B)).unwrap()).collect();
    for itt in queue {
        good(&a.completion(itt).unwrap());
    }
    for itt in preempts {
        good(&b.completion(itt).unwrap());
    }
    assert_eq!(keys(&mut b), [6, B]);
}

/// Node A has WRITEs in a device that is slow to end them, one whose Data-Out never comes, and some that wait for their
/// turn. B preempts it, and from its answer on nothing of A may land.
#[test]
fn nothing_of_a_fenced_node_lands() {
    let world = on_two_reactors();
    let mut b = world.client("b");
    let offer = Offer { initial_r2t: Some(true), immediate_data: Some(true), ..Offer::usual() };
    let (mut a, outcome) = world.wire(&Config { offer, ..config("a") });
    let cmd_sn = outcome.exp_cmd_sn.0;
    let tur = ScsiCommand { final_bit: true, itt: 1, cmd_sn, ..ScsiCommand::default() };
    a.send(&tur.with([])).unwrap();
    assert_eq!(a.receive().unwrap().unwrap().bhs.opcode(), opcode::SCSI_RESPONSE);
    let register = ScsiCommand {
        final_bit: true,
        write: true,
        itt: 2,
        expected_bytes: 24,
        cmd_sn: cmd_sn + 1,
        cdb: cdb::persistent_reserve_out(REGISTER, 0, 24),
        ..ScsiCommand::default()
    };
    a.send(&register.with(cdb::persistent_reserve_out_list(0, A))).unwrap();
    assert_eq!(status_of(&mut a), (2, status::GOOD));
    // A WRITE whose data are asked for and do not come.
    let silent = ScsiCommand {
        final_bit: true,
        write: true,
        itt: 3,
        expected_bytes: 4096,
        cmd_sn: cmd_sn + 2,
        cdb: cdb::write_10(0, 8, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    a.send(&silent.with([])).unwrap();
    let pdu = a.receive().unwrap().unwrap();
    let Response::R2t(r2t) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
    // The node's other session has the rest.
    let mut slow = world.client("slow");
    good(&out(&mut slow, REGISTER, 0, 0, A));
    good(&out(&mut b, REGISTER, 0, 0, B));
    good(&out(&mut slow, RESERVE, WRITE_EXCLUSIVE, A, 0));
    let lost = world.disks[0].order(Kind::Write, Fault::Lose, 2);
    let held = world.disks[0].order(Kind::Write, Fault::Hold, 2);
    let writes: Vec<u32> =
        (0..4).map(|index| slow.session().command(write(1, 8 * index, 8)).unwrap()).collect();
    slow.ping(b"").unwrap();
    assert_eq!((world.disks[0].faults.left(lost), world.disks[0].faults.left(held)), (0, 0));

    let preempt = b.session().command(command(PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, B, A)).unwrap();
    b.ping(b"").unwrap();
    // That it is in force is seen before it is answered: A can do nothing any more.
    until("the new state", || keys(&mut b) == [B]);
    let mut asked = 0;
    until("a command that waits until it can be told why", || {
        asked = slow.session().command(write(2, 0, 8)).unwrap();
        slow.ping(b"").unwrap();
        let waits = slow.session().is_sent(asked);
        assert!(waits || slow.completion(asked).unwrap().is_good());
        waits
    });
    b.ping(b"").unwrap();
    assert!(b.session().is_sent(preempt), "the device still has WRITEs of the preempted nexus");
    world.disks[0].faults.release(lost);
    good(&b.completion(preempt).unwrap());
    good(&b.run(write(3, 0, 64)).unwrap());
    // What was held back and cancelled never lands, whatever the device does now.
    world.disks[0].faults.release(held);
    for itt in writes {
        assert_eq!(slow.completion(itt).unwrap().status, status::TASK_ABORTED);
    }
    assert_eq!(slow.completion(asked).unwrap().status, status::CHECK_CONDITION);
    assert_eq!(slow.run(write(2, 0, 8)).unwrap().status, status::RESERVATION_CONFLICT);
    // Nor do data that come after all.
    let data = DataOut { final_bit: true, itt: 3, ttt: r2t.ttt, ..DataOut::default() };
    a.send(&data.with(pattern(1, 0, 8, 512))).unwrap();
    assert_eq!(status_of(&mut a), (3, status::TASK_ABORTED));
    assert!(b.read(0, 64).unwrap() == pattern(3, 0, 64, 512));
}

#[test]
fn who_is_aborted_is_told_so_and_then_of_its_registration() {
    let world = on_two_reactors();
    let mut b = world.client("b");
    let offer = Offer { initial_r2t: Some(true), immediate_data: Some(false), ..Offer::usual() };
    let mut a = world.login(Config { offer, ..config("a") });
    good(&out(&mut a, REGISTER, 0, 0, A));
    good(&out(&mut b, REGISTER, 0, 0, B));
    good(&out(&mut a, RESERVE, EXCLUSIVE_ACCESS, A, 0));
    let held = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let write = a.session().command(write(1, 0, 8)).unwrap();
    // Its data are asked for first.
    until("the device has it", || {
        a.ping(b"").unwrap();
        world.disks[0].faults.left(held) == 0
    });
    good(&out(&mut b, PREEMPT_AND_ABORT, EXCLUSIVE_ACCESS, B, A));
    assert_eq!(a.completion(write).unwrap().status, status::TASK_ABORTED);
    told(&mut a, REGISTRATIONS_PREEMPTED);
    world.disks[0].faults.release(held);
    assert!(b.read(0, 8).unwrap() == vec![0; 8 * 512]);
}

/// PREEMPT without AND ABORT: the WRITE in the device may still end, and does before the answer; those behind it end in
/// RESERVATION CONFLICT.
#[test]
fn preempt_waits_for_what_the_device_has() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    good(&out(&mut a, RESERVE, WRITE_EXCLUSIVE, A, 0));
    let held = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let write = a.session().command(write(1, 0, 8)).unwrap();
    a.ping(b"").unwrap();
    assert_eq!(world.disks[0].faults.left(held), 0);
    let preempt = b.session().command(command(PREEMPT, WRITE_EXCLUSIVE, B, A)).unwrap();
    until("the new state", || keys(&mut b) == [B]);
    assert!(b.session().is_sent(preempt));
    good(&b.run(read(0, 8)).unwrap());
    world.disks[0].faults.release(held);
    good(&b.completion(preempt).unwrap());
    good(&a.completion(write).unwrap());
    assert!(b.read(0, 8).unwrap() == pattern(1, 0, 8, 512));
}

/// What a nexus aborts of its own it is not told of, and the command that does it ends in GOOD.
#[test]
fn who_preempts_itself_gives_up_its_own_tasks_in_silence() {
    let world = on_two_reactors();
    let (mut a, _b) = pair(&world);
    let held = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let write = a.session().command(write(1, 0, 8)).unwrap();
    a.ping(b"").unwrap();
    good(&out(&mut a, PREEMPT_AND_ABORT, WRITE_EXCLUSIVE, A, A));
    a.ping(b"").unwrap();
    assert!(a.session().is_sent(write), "no status");
    world.disks[0].faults.release(held);
    assert!(a.read(0, 8).unwrap() == vec![0; 8 * 512]);
    assert_eq!(a.task_management(Tmf::abort(0, write)).unwrap(), 1, "the task is not there");
}

/// ABORT TASK for a change of reservations: one that waits behind another does not happen any more; one that is being
/// made happens, and the answer comes after it.
#[test]
fn a_change_that_is_aborted_does_not_happen_after_the_answer() {
    let world = on_two_reactors();
    let (mut a, mut b) = pair(&world);
    let held = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let write = b.session().command(write(1, 0, 8)).unwrap();
    b.ping(b"").unwrap();
    assert_eq!(world.disks[0].faults.left(held), 0);
    let reserve = a.session().command(command(RESERVE, WRITE_EXCLUSIVE, A, 0)).unwrap();
    let register = a.session().command(command(REGISTER, 0, A, 0xaa)).unwrap();
    a.ping(b"").unwrap();
    until("the reservation", || report(&mut b, 1).len() > 4);
    assert_eq!(a.task_management(Tmf::abort(0, register)).unwrap(), 0);
    assert!(matches!(a.next_event(), Some(Event::Aborted { itt, .. }) if itt == register));
    let abort = a.session().task_management(Tmf::abort(0, reserve)).unwrap();
    a.ping(b"").unwrap();
    assert_eq!(a.next_event(), None, "it is being made");
    world.disks[0].faults.release(held);
    good(&b.completion(write).unwrap());
    let answered = Event::TmfResponse { itt: abort, response: 0 };
    let events = [(); 2].map(|()| a.wait_event(SOON).unwrap().unwrap());
    assert!(events.contains(&answered), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Aborted { itt, .. } if *itt == reserve)));
    assert_eq!(keys(&mut b), [A, B]);
    conflict(&b.run(crate::harness::write(2, 0, 8)).unwrap());
    good(&out(&mut a, RELEASE, WRITE_EXCLUSIVE, A, 0));
}
