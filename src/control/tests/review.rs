//! Who stays logged in when groups and maps change, and what they find meanwhile.

use std::sync::mpsc;

use super::SUCCESS;
use super::world::{ALICE, TARGET, World, bdev, login, normal, portal_group, status, target};
use crate::control::access::{InitiatorGroup, NameRule, Netmask};
use crate::control::done::Done;
use crate::control::error::{ChangeError, What};
use crate::id::SessionId;
use crate::limits::DELETE_SECONDS;
use crate::reactor::message::{Change, EndReason, ToReactor};
use crate::scsi::view::LunNumber;
use crate::time::SECOND_NS;

const END_NS: u64 = DELETE_SECONDS as u64 * SECOND_NS;
const BOB: &str = "iqn.2026-11.io.example:bob";

fn waiter() -> (Done, mpsc::Receiver<bool>) {
    let (outcome, answer) = mpsc::sync_channel(1);
    (Done::new(move |ended| outcome.send(ended.is_clean).unwrap()), answer)
}

/// What the one reactor is told of sessions and LUNs, barriers acknowledged.
#[derive(PartialEq, Eq, Debug)]
enum Told {
    AskLogout(SessionId),
    End(SessionId),
    /// The LUN map, and how many LUNs it shows.
    Shown(Option<u32>, usize),
}

fn told(world: &mut World) -> Vec<Told> {
    let mut told = Vec::new();
    while let Some(message) = world.reactors[0].receive() {
        match message {
            ToReactor::AskLogout { session, seconds: DELETE_SECONDS } => told.push(Told::AskLogout(session)),
            ToReactor::EndSession { session, reason: EndReason::Removed } => told.push(Told::End(session)),
            ToReactor::Barrier { id, change } => {
                if let Change::Target { target, .. } = change {
                    told.push(Told::Shown(target.lun_map, target.mappings.len()));
                }
                let reactor = crate::id::ReactorId(0);
                world.tell(crate::reactor::message::ToControl::BarrierDone { id, reactor, is_clean: true });
            }
            ToReactor::AddUnit { .. } | ToReactor::Adopt(_) => {}
            other => panic!("{other:?}"),
        }
    }
    told
}

fn log_in(world: &mut World, initiator: &str) -> SessionId {
    assert_eq!(world.log_in(initiator, 1).1, SUCCESS);
    world.adopt(0).session
}

fn map(luns: &[u16]) -> Vec<(String, LunNumber, bool)> {
    luns.iter().map(|&number| ("disk0".to_owned(), LunNumber(number), false)).collect()
}

fn set(world: &mut World, group: u32, luns: Option<&[u16]>) {
    let luns = luns.map(map);
    world.control.set_lun_map(TARGET, group, luns.as_deref(), Done::nobody()).unwrap();
}

/// Alice is let in by group 2, which comes before group 1 that lets these in.
fn two_groups(others: &str) -> World {
    let mut world = World::for_initiators(1, others);
    let initiators = vec![NameRule::parse(ALICE).unwrap()];
    world.control.create_initiator_group(InitiatorGroup { initiators, ..InitiatorGroup::any(2) }).unwrap();
    world.control.remove_maps(TARGET, &[(1, 1)], Done::nobody()).unwrap();
    world.control.add_maps(TARGET, &[(1, 2), (1, 1)]).unwrap();
    told(&mut world);
    world
}

#[test]
fn a_group_that_goes_takes_its_sessions_with_it_and_shows_them_nothing_new() {
    let mut world = two_groups("ANY");
    set(&mut world, 2, Some(&[3]));
    told(&mut world);
    let (alice, bob) = (log_in(&mut world, ALICE), log_in(&mut world, BOB));
    let (done, gone) = waiter();
    world.control.delete_initiator_group(2, done).unwrap();
    // She finds what she found, while everybody's LUNs are two.
    assert_eq!(told(&mut world), [Told::AskLogout(alice)]);
    let group = InitiatorGroup::any(2);
    let leaving = ChangeError::Leaving { what: What::InitiatorGroup, name: "2".to_owned() };
    assert_eq!(world.control.create_initiator_group(group.clone()), Err(leaving));
    assert!(world.control.targets().next().unwrap().lun_maps.is_empty(), "no configuration has it any more");
    assert!(gone.try_recv().is_err());
    world.pass(END_NS);
    assert_eq!(told(&mut world), [Told::End(alice)]);
    world.ended(alice);
    assert!(gone.try_recv().is_err(), "a device may have IO of it");
    world.drained(alice);
    assert_eq!(gone.try_recv(), Ok(true));
    world.control.create_initiator_group(group).unwrap();
    // By the other group she is let in, and finds what everybody does.
    assert_eq!(world.log_in(ALICE, 1).1, SUCCESS);
    let found = std::iter::from_fn(|| world.reactors[0].receive()).find_map(|message| match message {
        ToReactor::Adopt(adopt) => Some(adopt.target.mappings.len()),
        _ => None,
    });
    assert_eq!(found, Some(2));
    assert!(world.control.sessions().is_live(bob));
}

#[test]
fn who_no_group_lets_in_any_more_goes() {
    let mut world = World::new(1);
    let alice = log_in(&mut world, ALICE);
    let (rules, any) = (vec![NameRule::parse(BOB).unwrap()], [NameRule::parse("ANY").unwrap()]);
    world.control.add_initiators(1, rules, Vec::new(), Done::nobody()).unwrap();
    assert_eq!(told(&mut world), [], "she may come as ever");
    let (done, gone) = waiter();
    world.control.remove_initiators(1, &any, &[], done).unwrap();
    assert_eq!(told(&mut world), [Told::AskLogout(alice)]);
    // Another change that concerns her waits too, and she is asked once.
    let (second, also_gone) = waiter();
    world.control.remove_maps(TARGET, &[(1, 1)], second).unwrap();
    assert!(!told(&mut world).contains(&Told::AskLogout(alice)));
    world.ended(alice);
    world.drained(alice);
    assert_eq!((gone.try_recv(), also_gone.try_recv()), (Ok(true), Ok(true)));
}

#[test]
fn a_target_that_is_deleted_meanwhile_goes_when_its_sessions_have() {
    let mut world = World::new(1);
    let alice = log_in(&mut world, ALICE);
    let [(first, group), (second, target_gone)] = [waiter(), waiter()];
    world.control.delete_initiator_group(1, first).unwrap();
    world.control.delete_target(TARGET, second, world.now()).unwrap();
    world.ended(alice);
    world.drained(alice);
    assert_eq!((group.try_recv(), target_gone.try_recv()), (Ok(true), Ok(true)));
    world.control.create_initiator_group(InitiatorGroup::any(1)).unwrap();
    world.control.create_target(&target(TARGET, Vec::new())).unwrap();
}

#[test]
fn a_group_that_goes_while_a_target_does_shows_its_sessions_nothing_new() {
    let mut world = two_groups("ANY");
    set(&mut world, 2, Some(&[3]));
    told(&mut world);
    let alice = log_in(&mut world, ALICE);
    let [(first, target_gone), (second, group)] = [waiter(), waiter()];
    world.control.delete_target(TARGET, first, world.now()).unwrap();
    world.control.delete_initiator_group(2, second).unwrap();
    // Everybody's LUNs are two.
    assert_eq!(told(&mut world), [Told::AskLogout(alice)]);
    world.ended(alice);
    world.drained(alice);
    assert_eq!((group.try_recv(), target_gone.try_recv()), (Ok(true), Ok(true)));
    world.control.create_initiator_group(InitiatorGroup::any(2)).unwrap();
    world.control.create_target(&target(TARGET, Vec::new())).unwrap();
}

#[test]
fn who_is_let_in_again_before_its_time_stays() {
    let mut world = World::new(1);
    let alice = log_in(&mut world, ALICE);
    let (done, answered) = waiter();
    world.control.remove_maps(TARGET, &[(1, 1)], done).unwrap();
    world.control.add_maps(TARGET, &[(1, 1)]).unwrap();
    world.pass(END_NS);
    assert!(!told(&mut world).contains(&Told::End(alice)));
    assert_eq!(answered.try_recv(), Ok(true));
}

#[test]
fn several_changes_are_reviewed_as_one() {
    let mut world = World::new(1);
    let (alice, bob) = (log_in(&mut world, ALICE), log_in(&mut world, BOB));
    world.control.hold_reviews();
    let (done, answered) = waiter();
    world.control.as_part_of_held(|control| {
        control.remove_initiators(1, &[NameRule::parse("ANY").unwrap()], &[], done).unwrap();
    });
    assert_eq!((told(&mut world), answered.try_recv()), (vec![], Ok(true)));
    let rules = vec![NameRule::parse(ALICE).unwrap()];
    world.control.as_part_of_held(|control| {
        control.add_initiators(1, rules, Vec::new(), Done::nobody()).unwrap();
    });
    let (done, answered) = waiter();
    world.control.release_reviews(done);
    assert_eq!(told(&mut world), [Told::AskLogout(bob)]);
    assert!(world.control.sessions().is_live(alice) && answered.try_recv().is_err());
    world.ended(bob);
    world.drained(bob);
    assert_eq!(answered.try_recv(), Ok(true));
}

/// Who closes something while others are at it is answered when it is closed, and not before.
#[test]
fn others_wait_for_the_review_of_what_they_change_meanwhile() {
    let mut world = two_groups("ANY");
    let (alice, bob) = (log_in(&mut world, ALICE), log_in(&mut world, BOB));
    let [(first, initiators), (second, group), (third, late)] = [waiter(), waiter(), waiter()];
    world.control.hold_reviews();
    world.control.remove_initiators(1, &[NameRule::parse("ANY").unwrap()], &[], first).unwrap();
    assert_eq!((told(&mut world), initiators.try_recv().is_err()), (vec![], true), "Bob is here still");
    world.control.delete_initiator_group(2, second).unwrap();
    assert_eq!((told(&mut world), group.try_recv().is_err()), (vec![], true), "and Alice");
    world.control.release_reviews(Done::nobody());
    assert_eq!(told(&mut world), [Told::AskLogout(alice), Told::AskLogout(bob)]);
    for session in [alice, bob] {
        assert!(initiators.try_recv().is_err() && group.try_recv().is_err());
        world.ended(session);
        world.drained(session);
    }
    assert_eq!((initiators.try_recv(), group.try_recv()), (Ok(true), Ok(true)));
    world.control.create_initiator_group(InitiatorGroup::any(2)).unwrap();
    // Nobody waits for ever for those who hold them back.
    world.control.hold_reviews();
    world.control.remove_maps(TARGET, &[(1, 1)], third).unwrap();
    world.pass(crate::limits::DELETE_NS);
    assert_eq!(late.try_recv(), Ok(false));
    world.control.release_reviews(Done::nobody());
}

#[test]
fn netmasks_and_negations_count_as_they_do_at_login() {
    let mut world = World::new(1);
    let (alice, bob) = (log_in(&mut world, ALICE), log_in(&mut world, BOB));
    let netmask = vec![Netmask::parse("203.0.113.0/24").unwrap()];
    world.control.add_initiators(1, Vec::new(), netmask, Done::nobody()).unwrap();
    world.control.remove_initiators(1, &[], &[Netmask::parse("ANY").unwrap()], Done::nobody()).unwrap();
    assert_eq!(told(&mut world), []);
    let kept_out = vec![NameRule::parse(&format!("!{BOB}")).unwrap()];
    let initiators = [kept_out, vec![NameRule::parse("ANY").unwrap()]].concat();
    world.control.create_initiator_group(InitiatorGroup { initiators, ..InitiatorGroup::any(2) }).unwrap();
    world.control.add_maps(TARGET, &[(1, 2)]).unwrap();
    assert_eq!(told(&mut world), [], "the first group decides");
    world.control.remove_maps(TARGET, &[(1, 1)], Done::nobody()).unwrap();
    assert_eq!(told(&mut world), [Told::AskLogout(bob)]);
    assert!(world.control.sessions().is_live(alice));
}

#[test]
fn a_portal_group_that_goes_ends_no_session_and_a_group_that_goes_then_does() {
    let mut world = World::new(1);
    world.control.add_portal_group(portal_group(2, &["192.0.2.2:3260"])).unwrap();
    world.control.add_maps(TARGET, &[(2, 1)]).unwrap();
    told(&mut world);
    let cable = world.connect_at(2, "203.0.113.5:40000");
    cable.write(&login(1, 0, 1, &normal(ALICE)));
    world.turn();
    assert_eq!(status(&cable.read()), SUCCESS);
    let alice = world.adopt(0).session;
    world.control.delete_portal_group(2).unwrap();
    world.control.add_initiators(1, vec![NameRule::parse(BOB).unwrap()], Vec::new(), Done::nobody()).unwrap();
    assert!(!told(&mut world).contains(&Told::AskLogout(alice)));
    world.control.delete_initiator_group(1, Done::nobody()).unwrap();
    assert!(told(&mut world).contains(&Told::AskLogout(alice)));
}

#[test]
fn a_first_map_takes_from_who_is_logged_in_and_a_map_that_goes_gives_to_who_may() {
    let mut world = two_groups("ANY");
    let (alice, bob) = (log_in(&mut world, ALICE), log_in(&mut world, BOB));
    let (done, answered) = waiter();
    world.control.set_lun_map(TARGET, 2, Some(&map(&[0, 5, 7])), done).unwrap();
    assert_eq!(
        (told(&mut world), answered.try_recv()),
        (vec![], Ok(true)),
        "she may find more than she does"
    );
    set(&mut world, 2, Some(&[5]));
    assert_eq!(told(&mut world), [Told::Shown(Some(2), 1), Told::AskLogout(alice)]);
    world.ended(alice);
    world.drained(alice);
    let alice = log_in(&mut world, ALICE);
    set(&mut world, 2, None);
    assert_eq!(told(&mut world), [Told::Shown(Some(2), 2)], "which is what a login finds now");
    assert!(world.control.sessions().is_live(alice) && world.control.sessions().is_live(bob));
}

#[test]
fn what_is_shown_anew_is_not_shown_to_who_goes() {
    let mut world = two_groups(BOB);
    set(&mut world, 2, Some(&[3]));
    told(&mut world);
    let alice = log_in(&mut world, ALICE);
    world.control.remove_initiators(2, &[NameRule::parse(ALICE).unwrap()], &[], Done::nobody()).unwrap();
    assert_eq!(told(&mut world), [Told::AskLogout(alice)]);
    set(&mut world, 2, None);
    assert_eq!(told(&mut world), [Told::End(alice), Told::Shown(Some(2), 2)]);
    // The same where everybody's LUNs are more.
    let bob = log_in(&mut world, BOB);
    world.control.remove_maps(TARGET, &[(1, 1)], Done::nobody()).unwrap();
    assert_eq!(told(&mut world), [Told::AskLogout(bob)]);
    world.control.register_bdev(bdev(1)).unwrap();
    world.control.add_lun(TARGET, "disk1", None).unwrap();
    let told = told(&mut world);
    assert!(told.starts_with(&[Told::End(bob), Told::Shown(None, 3)]), "{told:?}");
}

#[test]
fn a_login_under_way_finds_the_luns_of_when_it_ends() {
    let mut world = two_groups("ANY");
    let old = log_in(&mut world, ALICE);
    // It waits for its predecessor.
    let waiting = world.connect("203.0.113.5:40001");
    waiting.write(&login(1, 0, 1, &normal(ALICE)));
    world.turn();
    assert_eq!(status(&waiting.read()), SUCCESS);
    set(&mut world, 2, Some(&[5]));
    assert!(waiting.is_closed());
    assert!(world.control.sessions().get(old).is_some());
}
