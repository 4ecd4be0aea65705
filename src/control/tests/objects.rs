//! Objects that come and go: what reactors are told, and when who asked is answered.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use super::world::{ALICE, TARGET, World, bdev, login, normal, portal_group, status, target};
use super::{SUCCESS, acknowledge};
use crate::bdev::{Bdev, Channel, Info};
use crate::control::done::{Done, Outcome};
use crate::control::error::{ChangeError, What};
use crate::control::options::Options;
use crate::control::probe::Prober;
use crate::control::registry::BdevSpec;
use crate::id::{ReactorId, UnitId};
use crate::limits::{DELETE_NS, DELETE_SECONDS, PROBES_MAX};
use crate::reactor::message::{Change, EndReason, ToControl, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::view::{LunNumber, Medium};
use crate::time::{SECOND_NS, Tick};

/// Somebody who waits for a change.
fn waiter() -> (Done, mpsc::Receiver<Outcome>) {
    let (outcome, answer) = mpsc::sync_channel(1);
    (Done::new(move |ended| outcome.send(ended).unwrap()), answer)
}

/// Whether the change was complete, if there is an answer.
fn answer(answer: &mpsc::Receiver<Outcome>) -> Option<bool> {
    answer.try_recv().ok().map(|outcome| outcome.is_clean)
}

fn release(world: &mut World, unit: UnitId, reactor: u16) {
    let bdev = bdev(0).bdev;
    world.tell(ToControl::UnitReleased { unit, reactor: ReactorId(reactor), bdev });
}

#[test]
fn a_removed_lun_is_answered_when_every_reactor_has_drained() {
    let mut world = World::new(2);
    let (done, answered) = waiter();
    world.control.remove_lun(TARGET, LunNumber(5), done).unwrap();
    let Change::Target { target, attention, drained } = acknowledge(&mut world, 0, true) else { panic!() };
    assert_eq!((target.mappings.len(), attention), (1, Some(Ua::LunsChanged)));
    assert_eq!(*drained, [UnitId::new(0, 0)]);
    assert_eq!(answer(&answered), None);
    acknowledge(&mut world, 1, false);
    assert_eq!(answer(&answered), Some(false), "a device kept IO");
}

#[test]
fn every_port_of_a_target_hears_of_its_luns() {
    let mut world = World::new(1);
    world.control.add_portal_group(portal_group(9, &["192.0.2.9:3260"])).unwrap();
    world.control.add_maps(TARGET, &[(9, 1)]).unwrap();
    // The first port's sessions tell one more portal.
    let Change::Target { target, attention: None, .. } = acknowledge(&mut world, 0, true) else { panic!() };
    assert_eq!((target.portal_group, target.portals.len()), (1, 2));
    world.control.register_bdev(bdev(1)).unwrap();
    assert_eq!(world.control.add_lun(TARGET, "disk1", None), Ok(LunNumber(1)));
    assert!(matches!(world.reactors[0].receive(), Some(ToReactor::AddUnit { .. })));
    for tag in [1, 9] {
        let Change::Target { target, .. } = acknowledge(&mut world, 0, true) else { panic!() };
        assert_eq!((target.portal_group, target.mappings.len()), (tag, 3));
    }
    assert!(world.reactors[0].receive().is_none());
}

#[test]
fn a_bdev_is_given_back_when_the_last_reactor_has_let_go() {
    let mut world = World::new(2);
    world.control.register_bdev(BdevSpec { bases: vec!["disk2".to_owned()], ..bdev(3) }).unwrap_err();
    let (done, answered) = waiter();
    world.control.unregister_bdev("disk0", done).unwrap();
    let unit = UnitId::new(0, 0);
    for reactor in [0, 1] {
        let Change::Target { target, .. } = acknowledge(&mut world, reactor, true) else { panic!() };
        assert!(target.mappings.is_empty());
        let Change::RemoveUnit { unit: removed } = acknowledge(&mut world, reactor, true) else { panic!() };
        assert_eq!(removed, unit);
    }
    release(&mut world, unit, 0);
    release(&mut world, unit, 0);
    assert!(world.control.bdev("disk0").is_some_and(|entry| entry.is_leaving));
    let leaving = ChangeError::Leaving { what: What::Bdev, name: "disk0".to_owned() };
    assert_eq!(world.control.add_lun(TARGET, "disk0", None), Err(leaving));
    assert!(answered.try_recv().is_err());
    release(&mut world, unit, 1);
    let outcome = answered.try_recv().unwrap();
    assert_eq!((outcome.is_clean, outcome.bdevs.len()), (true, 1));
    assert!(world.control.bdev("disk0").is_none());
}

#[test]
fn who_waits_for_a_device_that_keeps_io_is_answered_and_the_name_stays_taken() {
    let mut world = World::new(1);
    let (done, answered) = waiter();
    world.control.unregister_bdev("disk0", done).unwrap();
    acknowledge(&mut world, 0, true);
    acknowledge(&mut world, 0, false);
    let outcome = answered.try_recv().unwrap();
    assert_eq!((outcome.is_clean, outcome.bdevs.len()), (false, 0));
    let exists = ChangeError::Exists { what: What::Bdev, name: "disk0".to_owned() };
    assert_eq!(world.control.register_bdev(bdev(0)), Err(exists));
    release(&mut world, UnitId::new(0, 0), 0);
    world.control.register_bdev(bdev(0)).unwrap();
}

#[test]
fn a_reactor_that_stops_has_let_go() {
    let mut world = World::new(2);
    let (done, answered) = waiter();
    world.control.unregister_bdev("disk0", done).unwrap();
    acknowledge(&mut world, 0, true);
    acknowledge(&mut world, 0, true);
    release(&mut world, UnitId::new(0, 0), 0);
    world.tell(ToControl::Stopped { reactor: ReactorId(1) });
    assert_eq!(answer(&answered), Some(true));
}

#[test]
fn what_is_made_of_a_bdev_goes_first_and_what_nobody_serves_goes_at_once() {
    let mut world = World::new(1);
    world.control.register_bdev(bdev(1)).unwrap();
    world.control.register_bdev(BdevSpec { bases: vec!["disk1".to_owned()], ..bdev(2) }).unwrap();
    let claimed = ChangeError::Claimed { name: "disk1".to_owned(), by: "disk2".to_owned() };
    assert_eq!(world.control.add_lun(TARGET, "disk1", None), Err(claimed));
    let mapped = BdevSpec { bases: vec!["disk0".to_owned()], ..bdev(3) };
    assert_eq!(world.control.register_bdev(mapped), Err(ChangeError::Mapped("disk0".to_owned())));
    let (done, answered) = waiter();
    world.control.unregister_bdev("disk1", done).unwrap();
    let outcome = answered.try_recv().unwrap();
    let names: Vec<String> = outcome.bdevs.iter().map(|bdev| bdev.info().name).collect();
    assert_eq!((outcome.is_clean, names), (true, vec!["disk2".to_owned(), "disk1".to_owned()]));
    assert!(world.reactors[0].receive().is_none());
}

#[test]
fn a_deleted_target_asks_then_ends_then_answers() {
    let mut world = World::new(1);
    world.log_in(ALICE, 1);
    let session = world.adopt(0).session;
    let (done, answered) = waiter();
    world.control.delete_target(TARGET, done, world.now()).unwrap();
    let asked = world.reactors[0].receive();
    assert!(
        matches!(asked, Some(ToReactor::AskLogout { session: asked, seconds: DELETE_SECONDS }) if asked == session)
    );
    let (_, refused) = world.log_in(ALICE, 2);
    assert_eq!(refused, [2, 3]);
    let end_at = world.now().after_ns(u64::from(DELETE_SECONDS) * SECOND_NS);
    assert!(world.control.next_deadline().is_some_and(|deadline| deadline <= end_at));
    world.pass(u64::from(DELETE_SECONDS) * SECOND_NS);
    let ended = world.reactors[0].receive();
    assert!(
        matches!(ended, Some(ToReactor::EndSession { session: ended, reason: EndReason::Removed }) if ended == session)
    );
    world.ended(session);
    assert_eq!(answer(&answered), None, "a device may have IO of it");
    let again = world.control.create_target(&target(TARGET, Vec::new()));
    assert_eq!(again, Err(ChangeError::Leaving { what: What::Target, name: TARGET.to_owned() }));
    world.drained(session);
    assert_eq!(answer(&answered), Some(true));
    world.control.create_target(&target(TARGET, Vec::new())).unwrap();
}

#[test]
fn who_deletes_a_target_is_answered_in_bounded_time() {
    let mut world = World::new(1);
    world.log_in(ALICE, 1);
    let session = world.adopt(0).session;
    let (done, answered) = waiter();
    world.control.delete_target(TARGET, done, world.now()).unwrap();
    world.pass(DELETE_NS);
    assert_eq!(answer(&answered), Some(false));
    world.ended(session);
    world.drained(session);
    world.control.create_target(&target(TARGET, Vec::new())).unwrap();
}

#[test]
fn logins_under_way_do_not_outlive_their_target() {
    let mut world = World::new(1);
    world.log_in(ALICE, 1);
    world.adopt(0);
    let waiting = world.connect("203.0.113.5:40001");
    waiting.write(&login(1, 0, 1, &normal(ALICE)));
    world.turn();
    assert_eq!(status(&waiting.read()), SUCCESS, "it waits for the first to end");
    world.control.delete_target(TARGET, Done::nobody(), world.now()).unwrap();
    assert!(waiting.is_closed());
}

#[test]
fn a_portal_group_leads_to_what_is_mapped_to_it() {
    let mut world = World::new(1);
    let log_in = |world: &mut World, tag| {
        let cable = world.connect_at(tag, "203.0.113.5:40000");
        cable.write(&login(1, 0, 1, &normal(ALICE)));
        world.turn();
        status(&cable.read())
    };
    assert_eq!(log_in(&mut world, 2), [2, 3]);
    world.control.add_portal_group(portal_group(2, &["192.0.2.2:3260"])).unwrap();
    assert_eq!(log_in(&mut world, 2), [2, 3]);
    world.control.add_maps(TARGET, &[(2, 1)]).unwrap();
    acknowledge(&mut world, 0, true);
    assert_eq!(log_in(&mut world, 2), SUCCESS);
    let adopt = world.adopt(0);
    assert_eq!((adopt.target.portal_group, adopt.target.relative_port), (2, 2));
    // The same names and ISID at another portal group are another nexus (RFC 7143 §4.4.2).
    assert_eq!(log_in(&mut world, 1), SUCCESS);
    assert_eq!(world.adopt(0).target.portal_group, 1);
    assert_eq!(world.control.sessions().count(), 2);
    world.control.remove_maps(TARGET, &[(2, 1)], Done::nobody()).unwrap();
    assert_eq!(log_in(&mut world, 2), [2, 3]);
}

/// A disk whose medium comes later.
#[derive(Debug)]
pub(super) struct Late(&'static str, Arc<AtomicU64>);

impl Late {
    pub(super) fn spec(name: &'static str, blocks: &Arc<AtomicU64>, bases: &[&str]) -> BdevSpec {
        BdevSpec {
            bdev: Arc::new(Late(name, Arc::clone(blocks))),
            product: name.to_owned(),
            recipe: String::new(),
            bases: bases.iter().map(|&base| base.to_owned()).collect(),
        }
    }
}

impl Bdev for Late {
    fn info(&self) -> Info {
        let blocks = self.1.load(Ordering::Relaxed);
        let uuid = if blocks > 0 { [self.0.as_bytes()[0]; 16] } else { [0; 16] };
        Info { name: self.0.to_owned(), blocks, uuid, ..bdev(0).bdev.info() }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        unreachable!("control opens no channel")
    }
}

#[test]
fn a_disk_without_medium_is_not_ready_and_is_looked_for_until_it_is() {
    let mut world = World::new(1);
    let blocks = Arc::new(AtomicU64::new(0));
    let mut prober = Prober::default();
    let now = |seconds: u64| Tick::from_ns(seconds * SECOND_NS);
    assert!(prober.due(&world.control, now(1)).is_empty());
    assert_eq!(prober.deadline(), None);
    world.control.register_bdev(Late::spec("late", &blocks, &[])).unwrap();
    world.control.add_lun(TARGET, "late", None).unwrap();
    let Some(ToReactor::AddUnit { view, .. }) = world.reactors[0].receive() else { panic!() };
    assert_eq!((view.medium, view.blocks), (Medium::NotReady, 0));
    assert_ne!(view.identity.serial, "0".repeat(32), "it is not taken for another that is missing");
    acknowledge(&mut world, 0, true);
    let due = |prober: &mut Prober, world: &World, seconds| -> Vec<String> {
        prober.due(&world.control, now(seconds)).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(due(&mut prober, &world, 2), ["late"]);
    assert_eq!(prober.deadline(), None, "a thread is looking");
    assert_eq!(due(&mut prober, &world, 4), [""; 0]);
    prober.probed(&mut world.control, "late", Err("no such file".into()));
    assert_eq!((due(&mut prober, &world, 4), prober.deadline()), (vec![], Some(now(5))));
    assert_eq!(due(&mut prober, &world, 5), ["late"]);
    blocks.store(64, Ordering::Relaxed);
    prober.probed(&mut world.control, "late", Ok(()));
    let Change::Unit { view: found, attention, .. } = acknowledge(&mut world, 0, true) else { panic!() };
    assert_eq!((found.medium, found.blocks, attention), (Medium::Ready, 64, Some(Ua::MediumChanged)));
    assert_eq!(found.identity.serial, "6c".repeat(16));
    assert_eq!((due(&mut prober, &world, 9), prober.deadline()), (vec![], None));
    // What is there is told, also where something else is amiss.
    blocks.store(128, Ordering::Relaxed);
    prober.probed(&mut world.control, "late", Err("a reactor has got no io_uring".into()));
    let Change::Unit { view: grown, .. } = acknowledge(&mut world, 0, true) else { panic!() };
    assert_eq!((grown.medium, grown.blocks), (Medium::Ready, 128));
}

#[test]
fn every_disk_without_medium_has_its_turn_to_be_looked_for() {
    let mut world = World::new(1);
    let blocks = Arc::new(AtomicU64::new(0));
    for index in 0..2 * PROBES_MAX + 1 {
        let name: &'static str = format!("late{index}").leak();
        world.control.register_bdev(Late::spec(name, &blocks, &[])).unwrap();
    }
    let mut prober = Prober::default();
    let mut looked_for = BTreeSet::new();
    for seconds in 1..4 {
        let due = prober.due(&world.control, Tick::from_ns(seconds * SECOND_NS));
        assert_eq!(due.len(), PROBES_MAX);
        for (name, _) in due {
            prober.probed(&mut world.control, &name, Err("another program has it".into()));
            looked_for.insert(name);
        }
    }
    assert_eq!(looked_for.len(), 2 * PROBES_MAX + 1);
}

#[test]
fn what_is_made_of_a_bdev_is_read_again_with_it() {
    let mut world = World::new(1);
    let blocks = Arc::new(AtomicU64::new(8));
    world.control.register_bdev(Late::spec("base", &blocks, &[])).unwrap();
    world.control.register_bdev(Late::spec("over", &blocks, &["base"])).unwrap();
    world.control.add_lun(TARGET, "over", None).unwrap();
    assert!(matches!(world.reactors[0].receive(), Some(ToReactor::AddUnit { .. })));
    acknowledge(&mut world, 0, true);
    blocks.store(16, Ordering::Relaxed);
    let (done, answered) = waiter();
    world.control.reread_bdev("base", done).unwrap();
    let Change::Unit { view, .. } = acknowledge(&mut world, 0, true) else { panic!() };
    assert_eq!((view.blocks, answer(&answered)), (16, Some(true)));
}

#[test]
fn options_are_checked_and_hold_for_logins_from_then_on() {
    let mut world = World::new(1);
    let range = |options: Options| match Options::check(&options) {
        Err(ChangeError::Range { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let default = Options::default();
    assert_eq!(range(Options { sessions_max: 0, ..default.clone() }), "max_sessions");
    let mut offer = default.offer;
    offer.time2wait = 3601;
    assert_eq!(range(Options { offer, ..default.clone() }), "default_time2wait");
    offer = default.offer;
    offer.first_burst_bytes = 511;
    assert_eq!(range(Options { offer, ..default.clone() }), "first_burst_length");
    let spoiled = Options { node_base: "disk".to_owned(), ..default.clone() };
    assert_eq!(world.control.set_options(spoiled), Err(ChangeError::TargetName("disk:x".to_owned())));
    assert_eq!(*world.control.options(), default);
    world.control.set_options(Options { sessions_max: 1, ..default }).unwrap();
    assert_eq!(world.log_in(ALICE, 1).1, SUCCESS);
    assert_eq!(world.log_in(ALICE, 2).1, [3, 2], "out of resources");
}
