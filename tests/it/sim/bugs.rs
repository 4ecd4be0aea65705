//! Bugs planted in the reactors, one at a time: a simulator that does not find them is not to be trusted.

use std::time::{Duration, Instant};

use lunette::reactor::Bug;

use super::chaos;

const SEEDS_MAX: u64 = 10_000;
const TIME_MAX: Duration = Duration::from_secs(1200);

/// Lives through seeds until one meets the bug.
fn find(bug: Bug, concerns: impl Fn(u64) -> bool) {
    let start = Instant::now();
    for seed in (0..SEEDS_MAX).filter(|seed| concerns(*seed)) {
        if let Err(error) = chaos::run(seed, Some(bug)) {
            println!("{bug:?}: seed {seed}, {:?}: {error}", start.elapsed());
            return;
        }
        assert!(start.elapsed() < TIME_MAX, "{bug:?} was not found by {seed} seeds in twenty minutes");
    }
    panic!("{bug:?} was not found by {SEEDS_MAX} seeds");
}

macro_rules! bugs {
    ($concerns:expr; $($name:ident: $bug:ident,)*) => {
        $(
            #[test]
            fn $name() {
                find(Bug::$bug, $concerns);
            }
        )*
    };
}

bugs! {
    |_| true;
    reply_before_drain: ReplyBeforeDrain,
    no_recheck_at_submit: NoRecheckAtSubmit,
    attention_after_reply: AttentionAfterReply,
    ghost_write: GhostWrite,
    flush_not_waited_for: FlushNotWaitedFor,
    fua_dropped: FuaDropped,
    tag_reuse: TagReuse,
    error_ignored: ErrorIgnored,
    answer_before_done: AnswerBeforeDone,
    answer_after_abort: AnswerAfterAbort,
    pieces_out_of_order: PiecesOutOfOrder,
    buffer_leak: BufferLeak,
    partial_write: PartialWrite,
    lent_not_kept: LentNotKept,
    hold_not_taken: HoldNotTaken,
    hold_not_honoured: HoldNotHonoured,
    hold_not_honoured_by_unmap: HoldNotHonouredByUnmap,
    permits_not_rechecked: PermitsNotRechecked,
    reserve_reply_before_drain: ReserveReplyBeforeDrain,
}

// CopyNotWaitedFor and NoBufferKept are found by worlds of their own: `copies::cells`, `scarce`.
bugs! {
    chaos::copies;
    token_not_broken: TokenNotBroken,
    token_not_held: TokenNotHeld,
}

bugs! {
    chaos::sanitizes;
    chore_not_drained: ChoreNotDrained,
}
