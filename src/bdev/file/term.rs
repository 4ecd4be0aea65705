//! A term of service: from one opening of the medium to the next.
//!
//! A disk that is opened anew begins a new term. Its channels find the way there by themselves, each when nothing of the old term
//! is in the kernel any more; and the medium is opened again only when no channel has anything there ([`Term::has_users`]), so that
//! nothing that was sent before can land after.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use super::Recipe;
use super::lack::Rings;
use super::open::Medium;
use super::verdict::Verdict;

#[derive(Debug)]
pub(super) struct Term {
    pub(super) recipe: Arc<Recipe>,
    /// None until it was opened.
    pub(super) medium: OnceLock<Arc<Medium>>,
    /// 0 until there is a medium.
    pub(super) blocks: AtomicU64,
    pub(super) verdict: Verdict,
    /// The same in all terms.
    pub(super) rings: Arc<Rings>,
    /// Channels that have IO.
    users: AtomicU32,
    next: OnceLock<Arc<Term>>,
}

impl Term {
    pub(super) fn new(recipe: Arc<Recipe>) -> Term {
        Term {
            recipe,
            medium: OnceLock::new(),
            blocks: AtomicU64::new(0),
            verdict: Verdict::new(),
            rings: Arc::default(),
            users: AtomicU32::new(0),
            next: OnceLock::new(),
        }
    }

    /// A channel that has no IO is about to. Refused when the term is over.
    #[must_use]
    pub(super) fn enter(&self) -> bool {
        self.users.fetch_add(1, Ordering::Relaxed);
        // Either this sees that the term is over, or `has_users` sees this.
        fence(Ordering::SeqCst);
        let is_entered = self.next.get().is_none();
        if !is_entered {
            self.leave();
        }
        is_entered
    }

    /// The channel's last IO has come back.
    pub(super) fn leave(&self) {
        self.users.fetch_sub(1, Ordering::Release);
    }

    /// The term that has followed this one.
    pub(super) fn next(&self) -> Option<&Arc<Term>> {
        self.next.get()
    }

    /// Ends it. The next one begins without a medium.
    pub(super) fn end(&self) -> Arc<Term> {
        let next =
            || Arc::new(Term { rings: Arc::clone(&self.rings), ..Term::new(Arc::clone(&self.recipe)) });
        Arc::clone(self.next.get_or_init(next))
    }

    /// Of a term that is over: whether any channel still has IO.
    pub(super) fn has_users(&self) -> bool {
        fence(Ordering::SeqCst);
        self.users.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::bdev::file::Cache;

    #[test]
    fn a_term_that_is_over_takes_no_new_users_and_waits_for_the_old() {
        let recipe = Recipe {
            name: "a".to_owned(),
            path: PathBuf::from("a"),
            create_bytes: None,
            block_bytes: None,
            cache: Cache::WriteBack,
            read_only: false,
            uuid: None,
        };
        let term = Term::new(Arc::new(recipe));
        assert!(term.enter());
        let next = term.end();
        assert!(Arc::ptr_eq(&next, &term.end()));
        assert!(!term.enter());
        assert!(term.has_users());
        term.leave();
        assert!(!term.has_users());
        assert!(next.enter());
    }
}
