//! The command window (RFC 7143 §4.2.2.1): which CmdSNs are taken, in which order, and how many.

use crate::iscsi::sn::Sn;
use crate::limits;

/// What a CmdSN says about a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It is the next: execute it.
    Due,
    /// It is in the window, but one before it has not come: keep it.
    Early,
    /// It is outside the window or came twice: ignore it silently.
    Ignored,
}

/// A session's window.
#[derive(Debug)]
pub struct Window {
    expected: Sn,
    max: Sn,
    size: u32,
    /// Bit i: `expected` + i has been taken (bit 0 never stays set).
    taken: u128,
    /// Commands taken in order whose answer is not on its way yet.
    unanswered: u32,
}

impl Window {
    /// A window of the smallest size that begins at `expected`.
    pub fn new(expected: Sn) -> Window {
        let size = limits::WINDOW_MIN;
        Window { expected, max: expected.plus(size).previous(), size, taken: 0, unanswered: 0 }
    }

    /// ExpCmdSN.
    pub fn expected(&self) -> Sn {
        self.expected
    }

    /// MaxCmdSN. It never goes back.
    pub fn max(&self) -> Sn {
        self.max
    }

    /// Commands that may be outstanding.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Commands taken in order whose answer is not on its way yet.
    pub fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Judges a CmdSN without taking it.
    pub fn place(&self, cmd_sn: Sn) -> Place {
        let Some(steps) = cmd_sn.steps_from(self.expected) else { return Place::Ignored };
        if self.max.is_before(cmd_sn) || steps >= limits::WINDOW_MAX || self.taken & (1 << steps) != 0 {
            Place::Ignored
        } else if steps == 0 {
            Place::Due
        } else {
            Place::Early
        }
    }

    /// Whether [`Window::place`] would find this one due.
    pub fn is_due(&self, cmd_sn: Sn) -> bool {
        cmd_sn == self.expected && cmd_sn != self.max.plus(1) && !self.has_early()
    }

    /// Takes a CmdSN that [`Window::place`] found due or early.
    pub fn take(&mut self, cmd_sn: Sn) {
        if let Some(steps) = cmd_sn.steps_from(self.expected)
            && steps < limits::WINDOW_MAX
        {
            self.taken |= 1 << steps;
        }
    }

    /// A CmdSN that was taken early counts as not received: its command has been discarded.
    pub fn give_back(&mut self, cmd_sn: Sn) {
        if let Some(steps) = cmd_sn.steps_from(self.expected)
            && steps < limits::WINDOW_MAX
        {
            self.taken &= !(1 << steps);
        }
    }

    /// Whether a CmdSN has been taken before its turn.
    pub fn has_early(&self) -> bool {
        self.taken != 0
    }

    /// Moves ExpCmdSN over one CmdSN that was taken: that one is due now. [`Window::begin`] or [`Window::skip`] follows.
    pub fn advance(&mut self) -> Option<Sn> {
        if self.taken & 1 == 0 {
            return None;
        }
        self.taken >>= 1;
        let due = self.expected;
        self.expected = due.plus(1);
        Some(due)
    }

    /// Takes the CmdSN that is due, for a command that will be answered; none has come early.
    pub fn take_due(&mut self) {
        debug_assert!(!self.has_early(), "those that came early are in order behind it");
        self.expected = self.expected.plus(1);
        // MaxCmdSN stays: one place further, and one place less.
        self.unanswered += 1;
    }

    /// A due command became a task that will be answered.
    pub fn begin(&mut self) {
        self.unanswered += 1;
        self.open();
    }

    /// A due CmdSN stands for no task.
    pub fn skip(&mut self) {
        self.open();
    }

    /// So many tasks that were begun were aborted, or their answers are on their way.
    pub fn end(&mut self, count: u32) {
        self.unanswered = self.unanswered.saturating_sub(count);
        self.open();
    }

    /// Doubles the window.
    pub fn grow(&mut self) {
        self.size = (self.size * 2).min(limits::WINDOW_MAX);
        self.open();
    }

    /// MaxCmdSN as it will be when `ended` more tasks have ended.
    pub fn max_after(&self, ended: u32) -> Sn {
        let room = self.size.saturating_sub(self.unanswered.saturating_sub(ended));
        let max = self.expected.plus(room).previous();
        if self.max.is_before(max) { max } else { self.max }
    }

    fn open(&mut self) {
        self.max = self.max_after(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_commands_wait_and_doubles_are_ignored() {
        let mut window = Window::new(Sn(u32::MAX));
        assert_eq!(window.max(), Sn(limits::WINDOW_MIN - 2));
        assert_eq!(window.place(Sn(0)), Place::Early);
        window.take(Sn(0));
        assert_eq!((window.place(Sn(0)), window.advance()), (Place::Ignored, None));
        assert_eq!(window.place(Sn(u32::MAX)), Place::Due);
        window.take(Sn(u32::MAX));
        assert_eq!((window.advance(), window.advance()), (Some(Sn(u32::MAX)), Some(Sn(0))));
        assert_eq!((window.advance(), window.expected()), (None, Sn(1)));
        assert_eq!(window.place(Sn(limits::WINDOW_MIN + 2)), Place::Ignored);
        assert_eq!(window.place(Sn(0)), Place::Ignored);
    }

    #[test]
    fn it_closes_with_unanswered_commands_and_never_goes_back() {
        let mut window = Window::new(Sn(1));
        let max = window.max();
        for sn in 1..=limits::WINDOW_MIN {
            window.take(Sn(sn));
            assert_eq!(window.advance(), Some(Sn(sn)));
            window.begin();
        }
        assert_eq!(window.place(Sn(limits::WINDOW_MIN + 1)), Place::Ignored);
        assert_eq!(window.expected(), max.plus(1));
        window.end(1);
        assert_eq!(window.place(Sn(limits::WINDOW_MIN + 1)), Place::Due);
        window.grow();
        assert_eq!(window.max(), Sn(2 * limits::WINDOW_MIN + 1));
    }
}
