//! One round of a world in which nothing is left to chance but the order in which disks end what they have.

use super::world::World;

/// Bytes of a session that stand still.
#[derive(Clone, Copy, Default)]
pub(super) struct Still {
    pub(super) to_target: bool,
    pub(super) to_initiator: bool,
}

impl World {
    /// Each part of the world once; what disks have ends where `ends_ios` says so. Whether anything moved.
    pub(super) fn round(&mut self, ends_ios: bool, still: impl Fn(usize) -> Still) -> Result<bool, String> {
        let mut has_moved = false;
        self.step += 1;
        self.now = self.now.after_ns(10_000);
        for index in 0..self.cores.len() {
            while self.relay_down(index) || self.relay_up(index) {
                has_moved = true;
            }
        }
        self.turn_control();
        for index in 0..self.cores.len() {
            has_moved |= self.turn(index)?;
        }
        for disk in self.disks.clone() {
            while ends_ios && disk.in_flight_count() > 0 {
                let which = self.rng.index(disk.in_flight_count());
                disk.end_one(which);
                has_moved = true;
            }
        }
        self.look()?;
        self.step += 1;
        for index in 0..self.sessions.len() {
            let (session, still) = (&self.sessions[index], still(index));
            if session.is_over {
                continue;
            }
            if !still.to_target {
                has_moved |= session.wire.flying_to_target() > 0 || session.wire.has_end_in_flight();
                session.wire.deliver_to_target(usize::MAX);
            }
            has_moved |= self.pump(index);
            if !still.to_initiator {
                has_moved |= self.deliver(index, usize::MAX)?;
            }
        }
        Ok(has_moved)
    }
}
