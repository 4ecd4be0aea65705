//! Members that are flushed when another one has been filled, and do not do it.

use super::*;

/// Members of which all do as they are told.
fn all_faulty(disks: &[Arc<Malloc>]) -> (Vec<Arc<dyn Bdev>>, Vec<Faults>) {
    let faults: Vec<Faults> = disks.iter().map(|_| Faults::new()).collect();
    let members = disks.iter().zip(&faults);
    let members = members.map(|(disk, faults)| Arc::new(Faulty::new(Arc::clone(disk) as _, faults.clone())));
    (members.map(|member| member as _).collect(), faults)
}

fn abort_flushes(faults: &Faults, error: IoError, count: u32) {
    faults.add(Rule::everywhere(Kind::Flush, Fault::Fail(error)), count).unwrap();
}

/// What the last member does, one after the other.
fn course(rig: &mut Rig, ms: u64) -> Vec<&'static str> {
    let mut course = Vec::new();
    for _ in 0..ms * 4 {
        rig.now = rig.now.after_ns(MS_NS / 4);
        rig.warden.step(rig.now);
        assert!(rig.poll().is_empty());
        course.extend(rig.doing().last().map(|doing| doing.word()));
    }
    course.dedup();
    course
}

/// Its own time-out ends it, or a reset: that is no reason to copy everything again.
#[test]
fn a_current_member_whose_flush_is_given_up_is_flushed_again() {
    for error in [IoError::Aborted, IoError::Cancelled] {
        let (members, faults) = all_faulty(&[disk(1), disk(2)]);
        let mut rig = Rig::new(members, record(&[1], false));
        abort_flushes(&faults[0], error, 3);
        assert_eq!(course(&mut rig, 60), ["out", "filling", "current"]);
        assert_eq!(rig.doing(), [Current, Current]);
    }
}

#[test]
fn one_whose_flush_is_always_given_up_is_out() {
    let (members, faults) = all_faulty(&[disk(1), disk(2), disk(3)]);
    let mut rig = Rig::new(members, record(&[1, 2], false));
    abort_flushes(&faults[0], IoError::Aborted, 4);
    assert_eq!(course(&mut rig, 9), ["out", "filling", "out"]);
    assert_eq!(rig.doing(), [Out, Current, Out]);
    rig.pass(100);
    assert_eq!(rig.doing(), [Current, Current, Current]);
}

/// What it was given it may have lost.
#[test]
fn who_is_being_filled_is_filled_anew_when_its_own_flush_is_given_up() {
    let (members, faults) = all_faulty(&[disk(1), disk(2)]);
    let mut rig = Rig::new(members, record(&[1], false));
    abort_flushes(&faults[1], IoError::Aborted, 1);
    assert_eq!(course(&mut rig, 60), ["out", "filling", "out", "filling", "current"]);
}
