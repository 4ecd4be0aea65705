//! Data buffers: pools of one reactor, cut from memory that is mapped once.
//!
//! Invariant: a [`Buf`] has one owner and one core for life. It is `!Send` (it holds an `Rc`), and it goes back to its
//! pool when dropped:
//!
//! ```compile_fail
//! fn crosses<T: Send>() {}
//! crosses::<lunette::buf::Buf>();
//! ```
#![cfg_attr(
    not(test),
    deny(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::too_many_lines
    )
)]

mod medium;
mod memory;
mod pool;
mod touched;

pub use medium::{Lender, Lent, Medium};
pub use memory::{Hugepages, MapFailed, Memory, Pages, Region};
pub use pool::{Buf, Class, ClassUse, Pool};
