//! Which blocks take space: who is read tells, and only while it is.

use super::*;
use crate::bdev::allocation::{State, Teller};
use crate::bdev::raid::mirror::plan::Plan;

/// A member that tells of one kind of blocks, behind one that is something else; plans are published while it is asked.
#[derive(Debug)]
struct Tells {
    disk: Arc<Malloc>,
    state: State,
    meanwhile: Mutex<Option<(Arc<Shared>, Vec<Plan>)>>,
}

impl Tells {
    fn new(number: u8, state: State) -> Arc<Tells> {
        Arc::new(Tells { disk: disk(number), state, meanwhile: Mutex::default() })
    }
}

impl Bdev for Tells {
    fn info(&self) -> Info {
        self.disk.info()
    }

    fn own(&self) -> Option<[u8; 16]> {
        self.disk.own()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.disk.open(reactor)
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        if let Some((shared, plans)) = self.meanwhile.lock().unwrap().take() {
            for plan in plans {
                shared.publish(plan);
            }
        }
        let mut teller = Teller::new(lba, blocks, 1);
        teller.data_to(1);
        teller.is_to(u64::MAX, self.state);
        teller.finish()
    }
}

const HOLE: State = State::Deallocated;

fn told(mirror: &Mirror, lba: u64) -> Vec<(u32, State)> {
    let told = mirror.allocation(lba, u32::MAX);
    told.runs().iter().map(|run| (run.blocks, run.state)).collect()
}

#[test]
fn the_reader_tells_and_no_other_member() {
    let (first, second) = (Tells::new(1, HOLE), Tells::new(2, State::Mapped));
    let faults = Faults::new();
    let bad: Arc<dyn Bdev> = Arc::new(Faulty::new(Arc::clone(&first) as _, faults.clone()));
    let mut rig = Rig::new(vec![bad, Arc::clone(&second) as _], record(&[1, 2], false));
    assert_eq!(told(&rig.mirror, 0), [], "nobody is read yet");
    rig.pass(2);
    assert_eq!(rig.write(0, 1, 7), Ok(()));
    assert_eq!(told(&rig.mirror, 0), [(1, State::Mapped), (63, HOLE)]);
    assert_eq!(
        (told(&rig.mirror, 60), told(&rig.mirror, 64), told(&rig.mirror, 65)),
        (vec![(4, HOLE)], vec![], vec![])
    );
    fail(&faults, Kind::Write);
    assert_eq!(rig.write(5, 1, 7), Ok(()));
    assert_eq!((rig.doing(), told(&rig.mirror, 0)), (vec![Out, Current], vec![(64, State::Mapped)]));
    // It is filled again, and the reader stays.
    rig.pass(60);
    assert_eq!((rig.doing(), told(&rig.mirror, 0)), (vec![Current, Current], vec![(64, State::Mapped)]));
}

/// A mirror has no anchors, whoever of its members has.
#[test]
fn what_is_anchored_in_a_member_is_mapped() {
    let (first, second) = (Tells::new(1, State::Anchored), Tells::new(2, HOLE));
    let rig = Rig::ready(vec![first, second]);
    assert_eq!(told(&rig.mirror, 0), [(64, State::Mapped)]);
}

#[test]
fn who_was_not_the_reader_all_the_time_is_not_believed() {
    let (first, second) = (Tells::new(1, HOLE), Tells::new(2, HOLE));
    let rig = Rig::ready(vec![Arc::clone(&first) as _, Arc::clone(&second) as _]);
    let shared = Arc::clone(&rig.mirror.shared);
    let plan = shared.plan();
    let without = plan.with_out(Set::of(0));
    let meanwhile = |plans: &[Plan]| {
        *first.meanwhile.lock().unwrap() = Some((Arc::clone(&shared), plans.to_vec()));
        told(&rig.mirror, 8)
    };
    assert_eq!(meanwhile(&[]), [(56, HOLE)]);
    assert_eq!(meanwhile(&[plan.with_out(Set::of(1)), plan]), [(56, HOLE)], "another one");
    assert_eq!(meanwhile(&[without]), []);
    shared.publish(plan);
    assert_eq!(meanwhile(&[without, plan]), [], "it was out in between, and may have missed writes");
    assert_eq!(told(&rig.mirror, 8), [(56, HOLE)]);
    shared.publish(plan.with_settling(true));
    assert_eq!(told(&rig.mirror, 8), [], "nothing is read now");
}
