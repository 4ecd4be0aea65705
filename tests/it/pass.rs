//! Commands that go to a device as they came: data, status and sense data in its own words, in pieces where they are long, and
//! what stays the target's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lunette::bdev::pass::{Cdb, Flow, Passes, Told};
use lunette::bdev::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, IoError, Op, Refused, Wake};
use lunette::control::done::Done as Ended;
use lunette::control::error::ChangeError;
use lunette::control::identity::Chosen;
use lunette::id::ReactorId;
use lunette::slab::Key;
use lunette::time::Tick;
use lunette_initiator::pdu::NO_TAG;
use lunette_initiator::pdu::request::{DataOut, ScsiCommand};
use lunette_initiator::pdu::response::{Response, ScsiResponse};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::session::{Completion, Function, Residual, Tmf};
use lunette_initiator::{Client, Command, Config, Data, Offer};

use crate::connections::{Session, is_quiet, next};
use crate::harness::{Setup, TARGET, World, config, disk, pattern, sense, spec, test_unit_ready, until};

/// How the device ends a command.
struct End {
    status: u8,
    residual_bytes: u32,
    sense: Vec<u8>,
}

const GOOD: End = End { status: 0, residual_bytes: 0, sense: Vec::new() };

type Act = dyn Fn(&Cdb, &mut [u8]) -> End + Send + Sync;

/// A device that is told what to do with each command, and remembers their CDBs.
struct Device {
    act: Box<Act>,
    is_blocks: bool,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<(Cdb, Flow, u32)>>,
    /// Nothing ends while this is set.
    is_held: AtomicBool,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device")
    }
}

/// The trait's object is shared by its channels.
#[derive(Debug)]
struct Handle(Arc<Device>);

#[derive(Debug)]
struct DeviceChannel {
    device: Arc<Device>,
    ended: VecDeque<Done>,
    told: Vec<(Key, Told, Vec<u8>)>,
}

impl Bdev for Handle {
    fn info(&self) -> Info {
        let (_, _, like) = disk(9, 1 << 20, 512);
        let passes = Some(Passes { is_blocks: self.0.is_blocks });
        Info { name: "device".to_owned(), passes, ..like.info() }
    }

    fn open(&self, _: ReactorId) -> Box<dyn Channel> {
        Box::new(DeviceChannel { device: Arc::clone(&self.0), ended: VecDeque::new(), told: Vec::new() })
    }
}

impl Channel for DeviceChannel {
    fn state(&self) -> ChannelState {
        ChannelState::Ready
    }

    fn submit(&mut self, mut io: Io, _: Tick) -> Result<(), Refused> {
        let mut result = Err(IoError::Unsupported);
        if let Op::Pass { cdb, flow, bytes } = io.op {
            self.device.shared.seen.lock().unwrap().push((cdb, flow, bytes));
            let data = io.data.as_deref_mut().map_or(&mut [][..], |data| &mut data[..bytes as usize]);
            let End { status, residual_bytes, sense } = (self.device.act)(&cdb, data);
            self.told.push((io.tag, Told { status, residual_bytes, sense_bytes: sense.len() }, sense));
            result = Ok(());
        }
        self.ended.push_back(Done { tag: io.tag, data: io.data, result });
        Ok(())
    }

    fn told(&mut self, tag: Key, into: &mut [u8]) -> Option<Told> {
        let at = self.told.iter().position(|(of, ..)| *of == tag)?;
        let (_, told, sense) = self.told.remove(at);
        // No room, where nobody wants to know.
        let bytes = sense.len().min(into.len());
        into[..bytes].copy_from_slice(&sense[..bytes]);
        Some(told)
    }

    fn kick(&mut self) {}

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, _: Tick) {
        if !self.device.shared.is_held.load(Ordering::Acquire) {
            let count = max.min(out.capacity() - out.len()).min(self.ended.len());
            out.extend(self.ended.drain(..count));
        }
    }

    fn cancel(&mut self, _: Key) {}

    fn fence(&mut self) -> Fence {
        Fence::Cannot
    }

    fn wake(&self) -> Wake {
        if self.ended.is_empty() { Wake::Idle } else { Wake::MustPoll }
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.ended.len()).unwrap()
    }
}

/// A world whose one LUN is such a device.
fn world(
    is_blocks: bool,
    act: impl Fn(&Cdb, &mut [u8]) -> End + Send + Sync + 'static,
) -> (World, Arc<Shared>) {
    world_of(Setup { reactors: 2, ..Setup::default() }, is_blocks, act)
}

fn world_of(
    setup: Setup,
    is_blocks: bool,
    act: impl Fn(&Cdb, &mut [u8]) -> End + Send + Sync + 'static,
) -> (World, Arc<Shared>) {
    let world = World::start(Setup { disks: Vec::new(), ..setup });
    let shared = Arc::new(Shared::default());
    let device = Arc::new(Device { act: Box::new(act), is_blocks, shared: Arc::clone(&shared) });
    world.control(|control| {
        control.register_bdev(spec(Arc::new(Handle(device)))).unwrap();
        control.add_lun(TARGET, "device", None).unwrap();
    });
    (world, shared)
}

/// A session, the unit attention of its login taken.
fn login(world: &World, config: Config) -> Client {
    let mut client = world.login(config);
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (6, 0x29, 0));
    client
}

fn cdb_of(bytes: &[u8]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

fn run(client: &mut Client, cdb: &[u8], data: Data) -> Completion {
    client.run(Command::new(0, cdb_of(cdb), data)).unwrap()
}

/// What the device got, of commands of sixteen bytes and less.
fn seen(shared: &Shared) -> Vec<([u8; 16], Flow, u32)> {
    let head = |(cdb, flow, bytes): (Cdb, _, _)| {
        let (head, rest) = cdb.split_first_chunk().unwrap();
        assert_eq!(rest, [0; 16]);
        (*head, flow, bytes)
    };
    std::mem::take(&mut *shared.seen.lock().unwrap()).into_iter().map(head).collect()
}

#[test]
fn a_command_nobody_here_knows_reaches_the_device_and_its_answer_the_initiator() {
    let (world, shared) = world(false, |cdb, data| match cdb[0] {
        0xb8 => {
            data[..20].copy_from_slice(b"twenty bytes of this");
            End { residual_bytes: u32::try_from(data.len() - 20).unwrap(), ..GOOD }
        }
        0x0a if data == b"a tape block" => GOOD,
        0x01 => GOOD,
        _ => End { status: status::BUSY, ..GOOD },
    });
    let mut client = login(&world, config("a"));
    let read = run(&mut client, &[0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], Data::In(20));
    assert!(
        read.is_good() && read.data == b"twenty bytes of this" && read.residual == Residual::None,
        "{read:?}"
    );
    let short = run(&mut client, &[0xb8], Data::In(4096));
    assert!(short.is_good() && short.data == b"twenty bytes of this", "{short:?}");
    assert_eq!(short.residual, Residual::Under(4076));
    let written = run(&mut client, &[0x0a, 0, 0, 0, 12], Data::Out(b"a tape block".to_vec().into()));
    assert!(written.is_good() && written.residual == Residual::None, "{written:?}");
    assert!(run(&mut client, &[0x01], Data::None).is_good());
    let busy = run(&mut client, &[0xc7, 9], Data::None);
    assert_eq!((busy.status, busy.sense), (status::BUSY, Vec::new()));
    let expected = [
        (cdb_of(&[0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), Flow::In, 20),
        (cdb_of(&[0xb8]), Flow::In, 4096),
        (cdb_of(&[0x0a, 0, 0, 0, 12]), Flow::Out, 12),
        (cdb_of(&[0x01]), Flow::None, 0),
        (cdb_of(&[0xc7, 9]), Flow::None, 0),
    ];
    assert_eq!(seen(&shared), expected);
}

#[test]
fn data_and_sense_data_come_together() {
    // A tape block that is shorter than asked for: ILI, and INFORMATION says by how much.
    let long: Vec<u8> = [0x72, 1, 0x5d, 0, 0, 0, 0, 244].into_iter().chain(0..244).collect();
    let ili = vec![0xf0, 0, 0x20, 0, 0, 0, 88, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (short, recovered) = (ili.clone(), long.clone());
    let (world, _) = world(false, move |cdb, data| match cdb[0] {
        0x08 => {
            data[..12].copy_from_slice(b"a tape block");
            End { status: 2, residual_bytes: 88, sense: short.clone() }
        }
        // All of the data, with RECOVERED ERROR and as much sense data as there can be.
        0x0b => {
            data.fill(7);
            End { status: 2, residual_bytes: 0, sense: recovered.clone() }
        }
        // The end of the medium is near: all was written.
        0x0a => End { status: 2, residual_bytes: 0, sense: vec![0x70, 0, 0x40, 0] },
        0x0c => End { status: status::BUSY, residual_bytes: 5, sense: Vec::new() },
        // No reason is given.
        _ => End { status: 2, residual_bytes: 0, sense: Vec::new() },
    });
    for (level, name) in [(0, "a"), (1, "b")] {
        let offer = Offer { error_recovery_level: Some(level), ..Offer::usual() };
        let mut client = login(&world, Config { offer, ..config(name) });
        let end = run(&mut client, &[0x08, 0, 0, 0, 100], Data::In(100));
        assert_eq!((end.status, &end.data[..]), (status::CHECK_CONDITION, &b"a tape block"[..]));
        assert_eq!((end.sense, end.residual), (ili.clone(), Residual::Under(88)));
        let end = run(&mut client, &[0x0b], Data::In(3000));
        assert_eq!((end.status, end.data), (status::CHECK_CONDITION, vec![7; 3000]));
        assert_eq!((end.sense, end.residual), (long.clone(), Residual::None));
        let end = run(&mut client, &[0x0a, 0, 0, 0, 8], Data::Out(b"the last".to_vec().into()));
        assert_eq!((end.status, end.sense), (status::CHECK_CONDITION, vec![0x70, 0, 0x40, 0]));
        assert_eq!(end.residual, Residual::None);
        let end = run(&mut client, &[0x0c], Data::Out(b"the last".to_vec().into()));
        assert_eq!((end.status, end.sense), (status::BUSY, Vec::new()));
        assert_eq!(end.residual, Residual::Under(5));
        assert_eq!(sense(&run(&mut client, &[0x0d], Data::None)), (4, 0x44, 0));
    }
}

#[test]
fn long_reads_and_writes_of_blocks_are_done_in_pieces() {
    let medium = Mutex::new(vec![0; 4 << 20]);
    let (world, shared) = world(true, move |cdb, data| {
        let at = 512 * u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize;
        let mut medium = medium.lock().unwrap();
        match cdb[0] {
            0x28 if at >= 3 << 20 => {
                data[..1024].fill(3);
                return End {
                    status: 2,
                    residual_bytes: u32::try_from(data.len() - 1024).unwrap(),
                    sense: vec![0x70, 0, 3],
                };
            }
            0x28 => data.copy_from_slice(&medium[at..at + data.len()]),
            0x2a => medium[at..at + data.len()].copy_from_slice(data),
            _ => {}
        }
        GOOD
    });
    let mut client = login(&world, config("a"));
    let data = pattern(1, 7, 1200, 512);
    let blocks = |opcode, lba: u32, count: u16| {
        let mut cdb = cdb_of(&[opcode, 0x08]);
        cdb[2..6].copy_from_slice(&lba.to_be_bytes());
        cdb[7..9].copy_from_slice(&count.to_be_bytes());
        cdb
    };
    let end = client.run(Command::new(0, blocks(0x2a, 7, 1200), Data::Out(data.clone().into()))).unwrap();
    assert!(end.is_good(), "{end:?}");
    let pieces = |opcode, flow| {
        [(7, 512), (519, 512), (1031, 176)]
            .map(|(lba, count)| (blocks(opcode, lba, count), flow, u32::from(count) * 512))
    };
    let mut written = seen(&shared);
    written.sort_by_key(|(cdb, ..)| *cdb);
    assert_eq!(written, pieces(0x2a, Flow::Out));
    let end = client.run(Command::new(0, blocks(0x28, 7, 1200), Data::In(1200 * 512))).unwrap();
    assert!(end.is_good() && end.data == data, "{:?}", end.residual);
    assert_eq!(seen(&shared), pieces(0x28, Flow::In));
    // The second piece fails behind its second block.
    let lba = (3 << 20) / 512 - 512;
    let end = client.run(Command::new(0, blocks(0x28, lba, 1536), Data::In(1536 * 512))).unwrap();
    assert_eq!((end.status, &end.sense[..], end.data.len()), (2, &[0x70, 0, 3][..], 514 * 512));
    assert_eq!(end.residual, Residual::Under(1022 * 512));
    assert_eq!(seen(&shared).len(), 2);
    // What is longer than its CDB says cannot be cut.
    let end = client.run(Command::new(0, blocks(0x28, 0, 1200), Data::In(1201 * 512))).unwrap();
    assert_eq!((sense(&end), seen(&shared)), ((5, 0x0e, 3), Vec::new()));
}

/// READ(32) or WRITE(32), as the device gets it.
fn long(action: u8, lba: u32, tag: u32, blocks: u32) -> Cdb {
    let mut long = [0; 32];
    long[..11].copy_from_slice(&[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, 0x08]);
    long[16..20].copy_from_slice(&lba.to_be_bytes());
    long[20..24].copy_from_slice(&tag.to_be_bytes());
    long[24..28].copy_from_slice(&[0xab, 0xcd, 0xff, 0xff]);
    long[28..].copy_from_slice(&blocks.to_be_bytes());
    long
}

/// A CDB of 32 bytes, as it is sent.
fn extended(cdb: &Cdb, data: Data) -> Command {
    let (head, rest) = cdb.split_first_chunk().unwrap();
    Command { ahs: [&[0, 17, 1, 0], rest].concat(), ..Command::new(0, *head, data) }
}

#[test]
fn cdbs_of_32_bytes_are_passed_and_cut_with_their_reference_tags() {
    let (world, shared) = world(true, |cdb, data| {
        data.fill(cdb[19]);
        GOOD
    });
    let take = || std::mem::take(&mut *shared.seen.lock().unwrap());
    let mut client = login(&world, config("a"));
    let pieces = |action, flow| {
        [(7, 0xffff_fff0, 512), (519, 496, 512), (1031, 1008, 176)]
            .map(|(lba, tag, blocks)| (long(action, lba, tag, blocks), flow, blocks * 512))
    };
    let write = extended(&long(0x0b, 7, 0xffff_fff0, 1200), Data::Out(vec![1; 1200 * 512].into()));
    assert!(client.run(write).unwrap().is_good());
    let mut written = take();
    written.sort_by_key(|(cdb, ..)| *cdb);
    assert_eq!(written, pieces(0x0b, Flow::Out));
    let end = client.run(extended(&long(0x09, 7, 0xffff_fff0, 1200), Data::In(1200 * 512))).unwrap();
    assert!(end.is_good(), "{end:?}");
    assert_eq!((end.data[0], end.data[512 * 512], end.data[1199 * 512]), (7, 7, 7));
    assert_eq!(take(), pieces(0x09, Flow::In));
    // Protection information is between its blocks: it is not cut.
    let mut protected = long(0x09, 7, 7, 1200);
    protected[10] = 0x20;
    let end = client.run(extended(&protected, Data::In(1200 * 520))).unwrap();
    assert_eq!((sense(&end), take()), ((5, 0x24, 0), Vec::new()));
    protected[28..].copy_from_slice(&8_u32.to_be_bytes());
    assert!(client.run(extended(&protected, Data::In(8 * 520))).unwrap().is_good());
    assert_eq!(take(), [(protected, Flow::In, 8 * 520)]);
    // One of more than 32 bytes no device gets: ADDITIONAL CDB LENGTH.
    let mut longer = extended(&protected, Data::In(512));
    longer.cdb[7] = 0x1c;
    longer.ahs = [&[0, 21, 1], &[0; 21][..]].concat();
    assert_eq!((sense(&client.run(longer).unwrap()), take()), ((5, 0x24, 0), Vec::new()));
}

#[test]
fn what_is_no_read_of_blocks_is_not_cut() {
    let (world, shared) = world(false, |_, _| GOOD);
    let mut client = login(&world, config("a"));
    assert!(run(&mut client, &[0x08, 0, 4, 0, 0], Data::In(256 << 10)).is_good());
    assert_eq!(seen(&shared), [(cdb_of(&[0x08, 0, 4, 0, 0]), Flow::In, 256 << 10)]);
    for data in [Data::In((256 << 10) + 1), Data::Out(vec![0; (256 << 10) + 1].into())] {
        assert_eq!(sense(&run(&mut client, &[0x08, 0, 4, 0, 1], data)), (5, 0x24, 0));
    }
    assert_eq!(seen(&shared), []);
}

#[test]
fn reservations_and_the_list_of_luns_stay_the_targets() {
    let (world, shared) = world(false, |_, _| GOOD);
    let [mut one, mut other] = ["a", "b"].map(|name| login(&world, config(name)));
    let luns = run(&mut one, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16], Data::In(16));
    assert_eq!(luns.data, [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(one.run(Command::new(0, cdb::reserve_6(), Data::None)).unwrap().is_good());
    assert_eq!(seen(&shared), []);
    for opcode in [0x01, 0x08, 0xc0] {
        assert_eq!(
            run(&mut other, &[opcode], Data::None).status,
            status::RESERVATION_CONFLICT,
            "{opcode:02x}"
        );
        assert!(run(&mut one, &[opcode], Data::None).is_good(), "{opcode:02x}");
    }
    assert!(run(&mut other, &[0x12, 0, 0, 0, 36], Data::In(36)).is_good());
    assert_eq!(seen(&shared).len(), 4);
    assert!(one.run(Command::new(0, cdb::release_6(), Data::None)).unwrap().is_good());
    assert!(run(&mut other, &[0x01], Data::None).is_good());
    // Who it is, it says itself.
    let chosen = Chosen { serial: Some("other".to_owned()), ..Chosen::default() };
    let set = world.control(|control| control.set_identity("device", chosen, false, Ended::nobody()));
    assert!(matches!(set, Err(ChangeError::Identity { .. })), "{set:?}");
}

#[test]
fn an_abort_waits_for_the_device() {
    let (world, shared) = world(false, |_, _| GOOD);
    let mut client = login(&world, config("a"));
    seen(&shared);
    shared.is_held.store(true, Ordering::Release);
    let rewind = client.session().command(Command::new(0, cdb_of(&[0x01]), Data::None)).unwrap();
    client.ping(b"").unwrap();
    until("the device has it", || !shared.seen.lock().unwrap().is_empty());
    client.session().task_management(Tmf::abort(0, rewind)).unwrap();
    client.ping(b"").unwrap();
    assert!(client.next_event().is_none(), "the device has it");
    shared.is_held.store(false, Ordering::Release);
    client.completion(rewind).unwrap_err();
    assert!(run(&mut client, &[0x00], Data::None).is_good());
    // And so does a reset, which the device hears nothing of.
    assert_eq!(client.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (6, 0x29, 0x03));
}

/// The data of a WRITE have come, unasked, while it waits for room for the device's sense data: these come with its status.
#[test]
fn a_write_that_waits_for_room_is_told_why_it_failed() {
    // Three buffers that sense data fit.
    let setup = Setup { pool_bytes: 128 << 10, ..Setup::default() };
    let (world, shared) = world_of(setup, false, |cdb, _| match cdb[0] {
        0x0a => End { status: 2, residual_bytes: 0, sense: vec![0x70, 0, 0x40, 9] },
        _ => GOOD,
    });
    let mut other = login(&world, config("b"));
    let offer = Offer { initial_r2t: Some(false), immediate_data: Some(true), ..Offer::usual() };
    let mut session = Session::begin(&world, offer);
    seen(&shared);
    shared.is_held.store(true, Ordering::Release);
    let rewinds =
        [(); 3].map(|()| other.session().command(Command::new(0, cdb_of(&[0x01]), Data::None)).unwrap());
    other.ping(b"").unwrap();
    until("the device has them", || shared.seen.lock().unwrap().len() == 3);
    let cdb = cdb_of(&[0x0a, 0, 0, 4, 0]);
    let mut write =
        session.command(7, &ScsiCommand { write: true, expected_bytes: 1024, cdb, ..ScsiCommand::default() });
    // F: more comes unasked.
    write.bhs.0[1] &= 0x7f;
    session.first.send(&write).unwrap();
    let data = DataOut { final_bit: true, itt: 7, ttt: NO_TAG, ..DataOut::default() };
    session.first.send(&data.with([5; 1024])).unwrap();
    assert!(is_quiet(&mut session.first, session.cmd_sn), "there is no room");
    shared.is_held.store(false, Ordering::Release);
    let (Response::Scsi(ScsiResponse { itt: 7, status, .. }), sense) = next(&mut session.first) else {
        panic!()
    };
    assert_eq!((status, &sense[..]), (2, &[0, 4, 0x70, 0, 0x40, 9][..]));
    for rewind in rewinds {
        assert!(other.completion(rewind).unwrap().is_good());
    }
}

/// Two pieces of a WRITE fail, each in its own way: what is told is what came first.
#[test]
fn the_first_failure_is_told() {
    let (world, shared) = world(true, |cdb, _| End {
        status: 2,
        residual_bytes: 0,
        sense: if cdb[4] == 0 { vec![0x70, 0, 3, 1] } else { vec![0x70, 0, 4, 2, 0, 0] },
    });
    let mut client = login(&world, config("a"));
    seen(&shared);
    shared.is_held.store(true, Ordering::Release);
    let write =
        Command::new(0, cdb_of(&[0x2a, 0, 0, 0, 0, 0, 0, 4, 0]), Data::Out(vec![1; 1024 * 512].into()));
    let write = client.session().command(write).unwrap();
    // Its data are asked for meanwhile.
    until("the device has both", || {
        client.ping(b"").unwrap();
        shared.seen.lock().unwrap().len() == 2
    });
    shared.is_held.store(false, Ordering::Release);
    let end = client.completion(write).unwrap();
    assert_eq!((end.status, &end.sense[..]), (2, &[0x70, 0, 3, 1][..]));
}
