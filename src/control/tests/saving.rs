//! What must survive: saved before it is answered, and there again in the next life.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::reserve::{BOB, Peer, REGISTER, RESERVE, answer, in_force, log_in, silent, ticket};
use super::world::{ALICE, TARGET, World, portal_group, target};
use crate::control::alua::{AccessChange, Luns};
use crate::control::done::Done;
use crate::control::error::ChangeError;
use crate::control::identity::Chosen;
use crate::control::store::file::{self, Lines};
use crate::control::store::{Changes, Records, Saver};
use crate::id::{NexusId, ReactorId, UnitId};
use crate::limits::{SAVE_NS, SAVE_RETRY_NS};
use crate::reactor::message::{Ask, ToControl, ToReactor};
use crate::scsi::alua::AccessState;
use crate::scsi::cdb::Cdb;
use crate::scsi::reserve::{Class, In};
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::view::UnitView;
use crate::scsi::{Outcome, Status};

/// What a file is to say, and what is to be written of it.
#[derive(Debug, Default)]
struct Orders {
    lines: Lines,
    revisions: Vec<(u64, Records)>,
}

/// A disk that writes when the test says so.
#[derive(Clone, Debug, Default)]
pub(super) struct Slow(Arc<Mutex<Orders>>);

impl Saver for Slow {
    fn save(&mut self, revision: u64, changes: Changes) {
        let mut orders = self.0.lock().unwrap();
        changes.apply(&mut orders.lines);
        let records = file::records(&file::text(&orders.lines)).unwrap();
        orders.revisions.push((revision, records));
    }
}

impl Slow {
    fn holding(records: &Records) -> Slow {
        Slow(Arc::new(Mutex::new(Orders { lines: file::lines(records), revisions: Vec::new() })))
    }

    pub(super) fn ordered(&self) -> Option<(u64, Records)> {
        self.0.lock().unwrap().revisions.pop()
    }

    /// Cannot write.
    #[track_caller]
    pub(super) fn refuse(&self, world: &mut World) {
        let (revision, _) = self.ordered().expect("something to write");
        let now = world.now();
        world.control.saved(revision, false, now);
        world.turn();
    }

    /// Writes all there is to write; what it is in the end.
    #[track_caller]
    pub(super) fn write(&self, world: &mut World) -> Records {
        let mut written = None;
        while let Some((revision, records)) = self.ordered() {
            let now = world.now();
            world.control.saved(revision, true, now);
            world.turn();
            written = Some(records);
        }
        written.expect("something to write")
    }
}

/// Alice at the first reactor, Bob at the second; the ports are written down.
pub(super) fn keeping(records: Records) -> (World, Slow, Peer, Peer) {
    let slow = Slow::holding(&records);
    let mut world = World::keeping(records, Box::new(slow.clone()));
    let (alice, bob) = (log_in(&mut world, ALICE, 0).0, log_in(&mut world, BOB, 1).0);
    if let Some((revision, _)) = slow.ordered() {
        let now = world.now();
        world.control.saved(revision, true, now);
    }
    (world, slow, alice, bob)
}

const APTPL: u8 = 0x01;
const ALL_TG_PT: u8 = 0x04;
const SPEC_I_PT: u8 = 0x08;

/// PERSISTENT RESERVE OUT of type Write Exclusive with these flags, and what comes behind the 24 bytes.
fn out(world: &mut World, peer: Peer, action: u8, keys: [u64; 2], flags: u8, more: &[u8]) {
    let mut list = keys.map(u64::to_be_bytes).concat();
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    list.extend(more);
    let [a, b, c, d] = u32::try_from(list.len()).unwrap().to_be_bytes();
    let cdb = Cdb::new([0x5f, action, 1, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0]);
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor: ReactorId(peer.reactor),
        ticket: ticket(1),
        session: peer.session,
        unit: UnitId(0),
        cdb,
        parameters: list.into(),
    })));
}

fn view(world: &World) -> UnitView {
    UnitView::clone(world.control.catalog.registry.view(UnitId(0)).unwrap())
}

fn keys(world: &World) -> Vec<u8> {
    let mut data = Vec::new();
    view(world).permits.report(In::Keys, &mut |bytes| data.extend_from_slice(bytes));
    data[8..].to_vec()
}

/// The disk of the world by its UUID.
const RECORD: &str = "reservations/01010101-0101-0101-0101-010101010101";

fn alice_and_bob(reservation: &Value) -> Value {
    let registration = |key: &str, initiator: &str| {
        json!({
            "key": key, "initiator": initiator, "isid": "00023d000001", "target": TARGET, "portal_group": 1, "port": 1,
        })
    };
    json!({
        "registrations": [registration("0000000000000007", ALICE), registration("00000000000000b0", BOB)],
        "reservation": reservation,
    })
}

#[test]
fn a_change_is_saved_then_in_force_then_answered() {
    let (mut world, disk, alice, bob) = keeping(Records::new());
    out(&mut world, alice, REGISTER, [0, 7], APTPL, &[]);
    silent(&world);
    assert_eq!(keys(&world), [0; 0], "nothing of it is seen before it is durable");
    // What comes meanwhile waits its turn.
    out(&mut world, bob, REGISTER, [0, 0xb0], APTPL, &[]);
    silent(&world);
    let (revision, _) = disk.ordered().unwrap();
    let now = world.now();
    world.control.saved(revision, true, now);
    world.turn();
    in_force(&mut world, true);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    disk.write(&mut world);
    in_force(&mut world, true);
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    out(&mut world, alice, RESERVE, [7, 0], 0, &[]);
    silent(&world);
    let records = disk.write(&mut world);
    in_force(&mut world, true);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    assert_eq!(records[RECORD], alice_and_bob(&json!({ "type": 1, "holder": 0 })));
    assert_eq!(records["ports"], json!([[TARGET, 1, 1]]));
    // Without APTPL nothing is kept, and that is durable too before it is answered.
    out(&mut world, bob, REGISTER, [0xb0, 0xb1], 0, &[]);
    silent(&world);
    assert_eq!(disk.write(&mut world).get(RECORD), None);
    in_force(&mut world, true);
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    // From now on nothing is to be saved.
    out(&mut world, bob, REGISTER, [0xb1, 0xb2], 0, &[]);
    in_force(&mut world, true);
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    assert!(disk.ordered().is_none());
}

#[test]
fn what_cannot_be_saved_does_not_happen() {
    let (mut world, disk, alice, bob) = keeping(Records::new());
    let failed = Outcome::check(Sense::INTERNAL_FAILURE);
    out(&mut world, alice, REGISTER, [0, 7], APTPL, &[]);
    let (revision, _) = disk.ordered().unwrap();
    let now = world.now();
    world.control.saved(revision, false, now);
    world.turn();
    assert_eq!(answer(&world, alice), (1, failed));
    silent(&world);
    assert_eq!(keys(&world), [0; 0]);
    // The disk is as it was, whatever came of that write, and the next change is on its own.
    world.pass(SAVE_RETRY_NS);
    assert_eq!(disk.write(&mut world).get(RECORD), None);
    // A disk that says nothing: the change is given up, and others are not in its way.
    out(&mut world, alice, REGISTER, [0, 7], APTPL, &[]);
    out(&mut world, bob, REGISTER, [0, 8], 0, &[]);
    world.pass(SAVE_NS);
    assert_eq!(answer(&world, alice), (1, failed));
    in_force(&mut world, true);
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    assert_eq!(keys(&world), [0, 0, 0, 0, 0, 0, 0, 8]);
}

#[test]
fn it_is_in_force_again_from_the_first_moment_of_the_next_life() {
    let saved = alice_and_bob(&json!({ "type": 1, "holder": 1 }));
    let (mut world, disk, alice, bob) = keeping(Records::from([(RECORD.to_owned(), saved)]));
    let permits = view(&world).permits;
    assert_eq!(keys(&world), [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0xb0]);
    assert!(permits.allows(bob.nexus, Class::Write) && !permits.allows(alice.nexus, Class::Write));
    assert!(!permits.allows(NexusId(99), Class::Write), "nor does anybody else write");
    out(&mut world, alice, RESERVE, [7, 0], 0, &[]);
    assert_eq!(answer(&world, alice), (1, Outcome::of(Status::ReservationConflict)));
    // Each goes on as if nothing had been.
    out(&mut world, bob, REGISTER, [0xb0, 0], APTPL, &[]);
    let records = disk.write(&mut world);
    assert_eq!(records[RECORD]["registrations"].as_array().unwrap().len(), 1);
    assert_eq!(records[RECORD]["reservation"], Value::Null);
}

#[test]
fn what_the_file_has_no_room_for_is_refused() {
    let (mut world, disk, alice, _) = keeping(Records::new());
    world.control.set_alua_explicit("disk0", true, false, Done::nobody()).unwrap();
    disk.write(&mut world);
    for reactor in [0, 1] {
        super::acknowledge(&mut world, reactor, true);
    }
    world.control.store.limit(0);
    let change = AccessChange {
        target: TARGET.to_owned(),
        portal_group: 1,
        luns: Luns::All,
        state: AccessState::Standby,
        is_preferred: None,
        is_initial: false,
    };
    let refused = world.control.set_access_state(&change, Done::nobody());
    assert_eq!(refused, Err(ChangeError::StateFull));
    let chosen = Chosen { serial: Some("7".to_owned()), ..Chosen::default() };
    let refused = world.control.set_identity("disk0", chosen, false, Done::nobody()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the state file is full: it would have more than 16384 records or 128 MiB; lunette_forget_disk takes out what is kept of \
         disks that are gone"
    );
    let full = Outcome::check(Sense::new(SenseKey::IllegalRequest, 0x55, 0x03));
    for (cdb, list) in [
        // SET TARGET PORT GROUPS, SET IDENTIFYING INFORMATION.
        ([0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 0, 0, 1][..]),
        ([0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0], b"one"),
        // SANITIZE, OVERWRITE with a pattern of one byte.
        ([0x48, 0x01, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 1, 0xaa]),
    ] {
        world.tell(ToControl::Ask(Box::new(Ask {
            reactor: ReactorId(alice.reactor),
            ticket: ticket(1),
            session: alice.session,
            unit: UnitId(0),
            cdb: Cdb::new(cdb),
            parameters: list.into(),
        })));
        assert_eq!(answer(&world, alice), (1, full), "{cdb:02x?}");
    }
    out(&mut world, alice, REGISTER, [0, 7], APTPL, &[]);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::NO_REGISTRATION_RESOURCES)));
    silent(&world);
}

#[test]
fn records_that_cannot_be_are_no_reason_not_to_serve() {
    for record in [json!(7), json!({ "registrations": [], "reservation": null }), json!({})] {
        let (world, ..) = keeping(Records::from([(RECORD.to_owned(), record)]));
        assert_eq!(keys(&world), [0; 0]);
    }
}

#[test]
fn a_port_has_its_identifier_again_whatever_came_first() {
    let (mut world, disk, ..) = keeping(Records::from([(
        "ports".to_owned(),
        json!([["iqn.2026-11.io.example:other", 1, 1], [TARGET, 1, 7]]),
    )]));
    let port = |world: &World, name: &str| {
        let ports = &world.control.catalog.targets.get(name).unwrap().ports;
        ports.iter().map(|view| view.relative_port).collect::<Vec<_>>()
    };
    assert_eq!(port(&world, TARGET), [7]);
    // One that is new has one that nobody had.
    let new = "iqn.2026-11.io.example:new";
    world.control.create_target(&target(new, Vec::new())).unwrap();
    assert_eq!(port(&world, new), [2]);
    let other = "iqn.2026-11.io.example:other";
    world.control.create_target(&target(other, Vec::new())).unwrap();
    assert_eq!(port(&world, other), [1]);
    world.turn();
    let expected = json!([[TARGET, 1, 7], [new, 1, 2], [other, 1, 1]]);
    let mut ports = disk.write(&mut world)["ports"].as_array().unwrap().clone();
    ports.sort_by_key(ToString::to_string);
    let mut expected = expected.as_array().unwrap().clone();
    expected.sort_by_key(ToString::to_string);
    assert_eq!(ports, expected);
}

#[test]
fn others_are_registered_at_every_port_of_the_target() {
    let (mut world, _, alice, _) = keeping(Records::new());
    world.control.add_portal_group(portal_group(2, &["192.0.2.9:3260"])).unwrap();
    world.control.add_maps(TARGET, &[(2, 1)]).unwrap();
    world.turn();
    // That every reactor is told of the new port.
    for reactor in &world.reactors {
        let Some(ToReactor::Barrier { .. }) = reactor.receive() else { panic!() };
    }
    let mut id = b"\x45\0\0\x30iqn.2026-11.io.example:carol,i,0x00023d000009".to_vec();
    id.resize(52, 0);
    let mut more = vec![0, 0, 0, 52];
    more.extend(&id);
    out(&mut world, alice, REGISTER, [0, 7], ALL_TG_PT | SPEC_I_PT, &more);
    in_force(&mut world, true);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    assert_eq!(keys(&world), [[0, 0, 0, 0, 0, 0, 0, 7]; 4].concat(), "Alice and Carol at two ports");
    let mut data = Vec::new();
    view(&world).permits.report(In::FullStatus, &mut |bytes| data.extend_from_slice(bytes));
    let carols = data.windows(10).filter(|bytes| bytes == b"ple:carol,").count();
    assert_eq!(carols, 2);
}

/// As many TransportIDs behind their length as there are texts.
fn ids(format: u8, texts: impl Iterator<Item = String>) -> Vec<u8> {
    let mut ids = Vec::new();
    for text in texts {
        let mut text = (text + "\0").into_bytes();
        text.resize(text.len().next_multiple_of(4).max(20), 0);
        ids.extend([format, 0]);
        ids.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        ids.extend(text);
    }
    [u32::try_from(ids.len()).unwrap().to_be_bytes().to_vec(), ids].concat()
}

/// As many as a list has room for, at each port of the target.
#[test]
fn one_list_names_no_more_than_can_be_registered() {
    let (mut world, _, alice, _) = keeping(Records::new());
    for tag in 2..=10 {
        let address = format!("192.0.2.9:{}", 3260 + tag);
        world.control.add_portal_group(portal_group(tag, &[&address])).unwrap();
        world.control.add_maps(TARGET, &[(tag, 1)]).unwrap();
    }
    world.turn();
    for reactor in &world.reactors {
        while reactor.receive().is_some() {}
    }
    let many = crate::limits::REGISTRATIONS_MAX / 10 + 1;
    let carol = "iqn.x:c";
    let ports = (0..many).map(|isid| format!("{carol},i,0x{isid:x}"));
    out(&mut world, alice, REGISTER, [0, 7], ALL_TG_PT | SPEC_I_PT, &ids(0x45, ports));
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::NO_REGISTRATION_RESOURCES)));
    assert!(world.control.sessions.isids_of(carol, TARGET, |_| true).is_empty(), "nobody was made known");
    // However often a name is said, it is one.
    let names = std::iter::repeat_n(ALICE.to_owned(), many);
    out(&mut world, alice, REGISTER, [0, 7], ALL_TG_PT | SPEC_I_PT, &ids(0x05, names));
    in_force(&mut world, true);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    assert_eq!(keys(&world), [[0, 0, 0, 0, 0, 0, 0, 7]; 10].concat(), "at each port");
}

#[test]
fn what_hosts_write_to_tell_a_unit_by_is_kept() {
    let (mut world, disk, alice, _) = keeping(Records::new());
    let set = |world: &mut World, kind: u8, text: &[u8]| {
        let length = u8::try_from(text.len()).unwrap();
        world.tell(ToControl::Ask(Box::new(Ask {
            reactor: ReactorId(alice.reactor),
            ticket: ticket(1),
            session: alice.session,
            unit: UnitId(0),
            cdb: Cdb::new([0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, length, kind << 1, 0, 0, 0, 0, 0]),
            parameters: text.into(),
        })));
    };
    // Who writes the same again is not told sooner that it is kept.
    set(&mut world, 0, b"one");
    set(&mut world, 0, b"one");
    silent(&world);
    disk.refuse(&mut world);
    for _ in 0..2 {
        assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::INTERNAL_FAILURE)));
    }
    world.pass(SAVE_RETRY_NS);
    if let Some((revision, _)) = disk.ordered() {
        let now = world.now();
        world.control.saved(revision, true, now);
    }
    set(&mut world, 0, b"one");
    silent(&world);
    // The second does not undo what is still being saved of the first.
    set(&mut world, 2, b"two\0");
    let records = disk.write(&mut world);
    let key = "identifying/01010101-0101-0101-0101-010101010101";
    assert_eq!(records[key], json!({ "unit": "6f6e65", "text": "74776f00" }));
    for _ in 0..2 {
        for reactor in [0, 1] {
            super::acknowledge(&mut world, reactor, true);
        }
    }
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    let identifying = view(&world).settings.identifying;
    assert_eq!((identifying.unit.as_slice(), identifying.text.as_slice()), (&b"one"[..], &b"two\0"[..]));
    let (world, ..) = keeping(records);
    assert_eq!(view(&world).settings.identifying, identifying);
}
