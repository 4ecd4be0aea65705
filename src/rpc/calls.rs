//! Which methods were called how often.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Calls of one method.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// Of them, those that were answered with an error.
    pub errors: u64,
    /// How long all of them took, in nanoseconds.
    pub took_ns: u64,
}

/// What methods are called that do not exist.
pub const UNKNOWN: &str = "(unknown)";

/// The calls there were, by method.
#[derive(Debug, Default)]
pub struct CallBook(Mutex<BTreeMap<&'static str, Calls>>);

impl CallBook {
    /// A call was answered. `method` is one of the table's, or [`UNKNOWN`]: no client makes the book grow.
    pub(super) fn enter(&self, method: &'static str, is_ok: bool, took_ns: u64) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = book.entry(method).or_default();
        calls.count += 1;
        calls.errors += u64::from(!is_ok);
        calls.took_ns = calls.took_ns.saturating_add(took_ns);
    }

    /// All of them, in the order of names.
    pub fn list(&self) -> Vec<(&'static str, Calls)> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter().map(|(method, calls)| (*method, *calls)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method() {
        let book = CallBook::default();
        book.enter("b", true, 5);
        book.enter("b", false, 7);
        book.enter(UNKNOWN, false, 1);
        let calls = |count, errors, took_ns| Calls { count, errors, took_ns };
        assert_eq!(book.list(), [(UNKNOWN, calls(1, 1, 1)), ("b", calls(2, 1, 12))]);
    }
}
