//! What every channel of a mirror has to know, in one word: members' roles, the window that is being copied, and what may begin.
//!
//! One word, so that who loads it sees all of it as it was at one moment.

/// Members of a mirror, at most: each has two bits here.
pub const MEMBERS_MAX: usize = 8;

/// No window is being copied.
const NO_WINDOW: u64 = 0xffff_ffff;
const ROLES_SHIFT: u32 = 32;
const DIRTY: u64 = 1 << 48;
const SETTLING: u64 = 1 << 49;
const READER_SHIFT: u32 = 50;

/// What a member is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Nothing is read or written there.
    Out,
    /// It is written, and read by nobody: what is older is being copied to it.
    Filling,
    /// It has all that was answered GOOD.
    Current,
}

/// A set of members.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Set(pub(super) u8);

impl Set {
    pub(super) const EMPTY: Set = Set(0);

    pub(super) fn of(member: usize) -> Set {
        Set(u8::try_from(member).ok().and_then(|member| 1u8.checked_shl(member.into())).unwrap_or(0))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(super) fn has(self, member: usize) -> bool {
        !self.and(Set::of(member)).is_empty()
    }

    pub(super) fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    pub(super) fn with(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub(super) fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    /// The lowest.
    pub(super) fn first(self) -> Option<usize> {
        self.iter().next()
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..MEMBERS_MAX).filter(move |member| self.has(*member))
    }
}

/// The word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan(pub(super) u64);

impl Plan {
    /// All are out.
    pub(super) const EMPTY: Plan = Plan(NO_WINDOW);

    pub(super) fn role(self, member: usize) -> Role {
        match u32::try_from(member).map_or(0, |member| self.0 >> (ROLES_SHIFT + 2 * member.min(7)) & 3) {
            1 => Role::Filling,
            2 => Role::Current,
            _ => Role::Out,
        }
    }

    /// The same with this member in this role. The reader stays who it is as long as it is current: reads that a member has begun for
    /// it may come back after changes that are written there first.
    pub(super) fn with_role(self, member: usize, role: Role) -> Plan {
        let Ok(member @ 0..8) = u32::try_from(member) else { return self };
        let shift = ROLES_SHIFT + 2 * member;
        let bits: u64 = match role {
            Role::Out => 0,
            Role::Filling => 1,
            Role::Current => 2,
        };
        let plan = Plan(self.0 & !(3 << shift) | bits << shift);
        match plan.current().first() {
            Some(first) if plan.reader().is_none() => {
                Plan(plan.0 & !(7 << READER_SHIFT) | (first as u64) << READER_SHIFT)
            }
            _ => plan,
        }
    }

    fn with_roles(self, members: Set, role: Role) -> Plan {
        members.iter().fold(self, |plan, member| plan.with_role(member, role))
    }

    /// The same with these members out.
    pub(super) fn with_out(self, members: Set) -> Plan {
        self.with_roles(members, Role::Out)
    }

    /// The same with these members current.
    pub(super) fn with_current(self, members: Set) -> Plan {
        self.with_roles(members, Role::Current)
    }

    fn all(self, is_wanted: impl Fn(Role) -> bool) -> Set {
        let members = (0..MEMBERS_MAX).filter(|member| is_wanted(self.role(*member)));
        members.fold(Set::EMPTY, |set, member| set.with(Set::of(member)))
    }

    /// Those that may be read.
    pub(super) fn current(self) -> Set {
        self.all(|role| role == Role::Current)
    }

    /// Those that are written.
    pub(super) fn written(self) -> Set {
        self.all(|role| role != Role::Out)
    }

    /// Who is read, and always that one, as it is written last.
    pub(super) fn reader(self) -> Option<usize> {
        let reader = (self.0 >> READER_SHIFT & 7) as usize;
        (self.role(reader) == Role::Current).then_some(reader)
    }

    /// The window that is being copied.
    pub(super) fn window(self) -> Option<u64> {
        let window = self.0 & NO_WINDOW;
        (window != NO_WINDOW).then_some(window)
    }

    pub(super) fn with_window(self, window: Option<u64>) -> Plan {
        Plan(self.0 & !NO_WINDOW | window.unwrap_or(NO_WINDOW).min(NO_WINDOW))
    }

    /// Whether so many windows have numbers.
    pub(super) fn has_numbers_for(windows: u64) -> bool {
        windows < NO_WINDOW
    }

    fn with_bit(self, bit: u64, is_set: bool) -> Plan {
        Plan(if is_set { self.0 | bit } else { self.0 & !bit })
    }

    /// The state file says that members may differ: what changes blocks may begin.
    pub(super) fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    pub(super) fn with_dirty(self, is_dirty: bool) -> Plan {
        self.with_bit(DIRTY, is_dirty)
    }

    /// Another member is read from now on, and some of the others may not have all that it has: nothing is read until they do.
    pub(super) fn is_settling(self) -> bool {
        self.0 & SETTLING != 0
    }

    pub(super) fn with_settling(self, is_settling: bool) -> Plan {
        self.with_bit(SETTLING, is_settling)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("reader", &self.reader())
            .field("current", &self.current())
            .field("written", &self.written())
            .field("window", &self.window())
            .field("is_dirty", &self.is_dirty())
            .field("is_settling", &self.is_settling())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_place_in_the_word() {
        let mut plan = Plan::EMPTY;
        assert_eq!((plan.reader(), plan.window(), plan.written()), (None, None, Set::EMPTY));
        for member in 0..MEMBERS_MAX {
            plan = plan.with_role(member, if member % 2 == 0 { Role::Filling } else { Role::Current });
        }
        plan = plan.with_window(Some(7)).with_dirty(true).with_settling(true);
        assert_eq!((plan.current(), plan.written(), plan.reader()), (Set(0xaa), Set(0xff), Some(1)));
        assert_eq!((plan.window(), plan.is_dirty(), plan.is_settling()), (Some(7), true, true));
        let plan = plan.with_out(Set(0x0f)).with_dirty(false).with_settling(false).with_window(None);
        assert_eq!((plan.current(), plan.written(), plan.window()), (Set(0xa0), Set(0xf0), None));
        assert_eq!((plan.is_dirty(), plan.is_settling(), plan.reader()), (false, false, Some(5)));
        assert_eq!(plan.with_role(0, Role::Current).reader(), Some(5), "whoever comes, it is read on");
        assert_eq!(plan.with_out(Set(0xff)).reader(), None);
        assert_eq!(plan.with_role(8, Role::Current), plan);
        assert_eq!(plan.with_window(Some(u64::MAX)).window(), None);
    }
}
