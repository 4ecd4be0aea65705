//! What happened to bdevs, numbered, the last of it kept for those who ask for what came after a number.
//!
//! This is SPDK's `notify_get_notifications`, whose numbers count bdevs' events alone from 0 without a gap; [`super::feed`] is ours, of
//! everything that happens. They are two on purpose: told out of one ring, a flood of logins would push out what SPDK's clients
//! poll for, and their numbers would be ours with holes.

use std::collections::VecDeque;

use super::Control;
use crate::limits::NOTICES_MAX;
use crate::net::Net;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A bdev is there.
    Registered,
    /// It is no more.
    Unregistered,
    /// It has another size.
    Resized,
}

impl What {
    /// All there are.
    pub const ALL: [What; 3] = [What::Registered, What::Unregistered, What::Resized];

    /// SPDK's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            What::Registered => "bdev_register",
            What::Unregistered => "bdev_unregister",
            What::Resized => "bdev_resize",
        }
    }
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Its number: one more than that of the one before; the first is 0.
    pub id: u64,
    /// What.
    pub what: What,
    /// To which bdev.
    pub bdev: String,
}

/// The last [`NOTICES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Notices {
    kept: VecDeque<Notice>,
    next: u64,
}

impl Notices {
    pub(super) fn push(&mut self, what: What, bdev: &str) {
        if self.kept.len() == NOTICES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Notice { id: self.next, what, bdev: bdev.to_owned() });
        self.next += 1;
    }

    fn since(&self, id: u64) -> impl Iterator<Item = &Notice> {
        self.kept.iter().skip_while(move |notice| notice.id < id)
    }
}

impl<N: Net> Control<N> {
    /// What has happened to bdevs from this number on, as far as it is kept.
    pub fn notices(&self, id: u64) -> impl Iterator<Item = &Notice> {
        self.catalog.registry.notices.since(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_numbers_go_on() {
        let mut notices = Notices::default();
        assert_eq!(notices.since(0).count(), 0);
        for _ in 0..NOTICES_MAX + 2 {
            notices.push(What::Resized, "M0");
        }
        notices.push(What::Unregistered, "M0");
        let ids: Vec<u64> = notices.since(0).map(|notice| notice.id).collect();
        assert_eq!((ids.len(), ids.first(), ids.last()), (1024, Some(&3), Some(&1026)));
        let last = Notice { id: 1026, what: What::Unregistered, bdev: "M0".to_owned() };
        assert_eq!(notices.since(1026).collect::<Vec<_>>(), [&last]);
        assert_eq!(notices.since(1027).count(), 0);
    }
}
