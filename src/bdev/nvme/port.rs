//! What a lane and the controller's thread tell each other: two bounded queues, neither of which is ever waited for.

use std::fmt;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::bus::Mapping;
use super::queue::Queue;
use crate::id::ReactorId;

/// Messages that wait in one direction. A lane asks for an abort per command slot at most, for a mapping per pool and for
/// little else.
const MESSAGES_MAX: usize = 1024;

/// What a lane wants of the controller's thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// A pair of queues. Answered by [`Reply::Opened`] or [`Reply::Gone`], perhaps much later: not before the controller works.
    Open,
    /// The device is to reach this memory. Answered by [`Reply::Mapped`].
    Map {
        /// Its first address in this process.
        base: usize,
        /// Its length.
        bytes: usize,
    },
    /// Abort this command of the lane's queue: a hint, not answered. The command completes, or its lane stops the queue.
    Abort {
        /// Its id.
        cid: u16,
    },
    /// Where the medium failed: the entry of the error log about this command. Answered by [`Reply::Lba`].
    WhichLba {
        /// Its id.
        cid: u16,
    },
    /// Take the pair away, so that nothing in it can reach memory or medium. Answered by [`Reply::Stopped`], or by
    /// [`Reply::Gone`].
    Stop {
        /// The pair.
        queue: Box<dyn Queue + Send>,
        /// Why.
        why: StopCause,
    },
    /// The lane is done with the controller: take the pair away. Nothing is answered.
    Close {
        /// The pair, where the lane has one.
        queue: Option<Box<dyn Queue + Send>>,
    },
}

/// Why a lane wants its pair of queues gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopCause {
    /// A command was not completed in time, nor when it was aborted.
    TimedOut,
    /// The target must be sure that nothing lands any more.
    Fence,
    /// The controller said something that makes no sense: it is reset as a whole.
    Nonsense(&'static str),
}

/// What the controller's thread tells a lane.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The pair. The lane may use it.
    Opened(Box<dyn Queue + Send>),
    /// The device can reach this memory; none where that takes no mapping.
    Mapped {
        /// What was asked for.
        base: usize,
        /// How it is reached, or why it is not.
        mapping: Result<Option<Mapping>, String>,
    },
    /// Where the command's medium failed, as far as the controller says.
    Lba {
        /// The command's id.
        cid: u16,
        /// The first bad block.
        lba: Option<u64>,
    },
    /// Nothing in the lane's queue can reach memory or medium any more, and all mappings are gone. It comes unasked when the
    /// controller was reset. The lane drops the pair where it still has it, ends or retries what was in it, and may ask for
    /// another; the controller's thread makes none for it before that.
    Stopped,
    /// The controller is gone for good, or the pair is refused for good. Nothing can reach memory any more.
    Gone,
}

/// The two queues between one lane and the controller's thread.
pub(crate) struct Port {
    /// Whose lane it is.
    pub(crate) reactor: ReactorId,
    requests: ArrayQueue<Request>,
    replies: ArrayQueue<Reply>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Port {
    /// `wake` makes the controller's thread look.
    pub(crate) fn new(reactor: ReactorId, wake: Arc<dyn Fn() + Send + Sync>) -> Port {
        Port {
            reactor,
            requests: ArrayQueue::new(MESSAGES_MAX),
            replies: ArrayQueue::new(MESSAGES_MAX),
            wake,
        }
    }

    /// The lane asks; the request comes back where too many wait.
    pub(crate) fn ask(&self, request: Request) -> Result<(), Request> {
        self.requests.push(request)?;
        (self.wake)();
        Ok(())
    }

    /// Asks for something that need not be done: where many wait, nothing happens.
    pub(crate) fn hint(&self, request: Request) {
        if self.requests.len() < MESSAGES_MAX / 2 {
            let _ = self.ask(request);
        }
    }

    /// The lane's next answer.
    pub(crate) fn reply(&self) -> Option<Reply> {
        self.replies.pop()
    }

    /// The next request, for the controller's thread.
    pub(crate) fn request(&self) -> Option<Request> {
        self.requests.pop()
    }

    /// The controller's thread answers; the answer comes back where the lane has not taken the earlier ones.
    pub(crate) fn answer(&self, reply: Reply) -> Result<(), Reply> {
        self.replies.push(reply)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("reactor", &self.reactor).finish_non_exhaustive()
    }
}
