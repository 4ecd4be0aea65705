//! Messages to the reactors. What a full queue does not take waits here, in order.

use std::collections::VecDeque;

use crate::id::ReactorId;
use crate::reactor::message::ToReactor;
use crate::reactor::port::Sender;

#[derive(Debug)]
struct Lane<H> {
    sender: Sender<ToReactor<H>>,
    backlog: VecDeque<ToReactor<H>>,
    is_stopped: bool,
}

/// One lane a reactor. The backlog is bounded by what control has: sessions and barriers.
#[derive(Debug)]
pub(super) struct Outbox<H> {
    lanes: Vec<Lane<H>>,
}

impl<H> Outbox<H> {
    /// In the order of reactors.
    pub(super) fn new(senders: Vec<Sender<ToReactor<H>>>) -> Outbox<H> {
        let lane = |sender| Lane { sender, backlog: VecDeque::new(), is_stopped: false };
        Outbox { lanes: senders.into_iter().map(lane).collect() }
    }

    /// Sends now or later, after everything sent before. A stopped reactor gets nothing.
    pub(super) fn send(&mut self, to: ReactorId, message: ToReactor<H>) {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)).filter(|lane| !lane.is_stopped) else {
            return;
        };
        if !lane.backlog.is_empty() {
            lane.backlog.push_back(message);
        } else if let Err(message) = lane.sender.send(message) {
            lane.backlog.push_back(message);
        }
    }

    /// Sends to every reactor that has not stopped.
    pub(super) fn broadcast(&mut self, mut message: impl FnMut() -> ToReactor<H>) {
        for reactor in self.running().collect::<Vec<_>>() {
            self.send(reactor, message());
        }
    }

    /// Tries what waits.
    pub(super) fn flush(&mut self) {
        for lane in &mut self.lanes {
            while let Some(message) = lane.backlog.pop_front() {
                if let Err(message) = lane.sender.send(message) {
                    lane.backlog.push_front(message);
                    break;
                }
            }
        }
    }

    /// Whether anything waits.
    pub(super) fn has_backlog(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.backlog.is_empty())
    }

    /// The reactor has stopped.
    pub(super) fn stopped(&mut self, reactor: ReactorId) {
        if let Some(lane) = self.lanes.get_mut(usize::from(reactor.0)) {
            lane.is_stopped = true;
            lane.backlog.clear();
        }
    }

    /// How many reactors there are, those included that have stopped.
    pub(super) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The reactors that have not stopped.
    pub(super) fn running(&self) -> impl Iterator<Item = ReactorId> {
        (0u16..).zip(&self.lanes).filter(|(_, lane)| !lane.is_stopped).map(|(index, _)| ReactorId(index))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::SessionId;
    use crate::net::Waker;
    use crate::reactor::port::{Receiver, channel};

    #[derive(Debug)]
    struct NoWaker;

    impl Waker for NoWaker {
        fn wake(&self) {}
    }

    fn gate(session: u64) -> ToReactor<()> {
        ToReactor::OpenGate { session: SessionId(session) }
    }

    fn received(receiver: &Receiver<ToReactor<()>>) -> Vec<u64> {
        std::iter::from_fn(|| receiver.receive())
            .map(|message| match message {
                ToReactor::OpenGate { session } => session.0,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_full_queue_keeps_the_order_and_holds_up_nobody_else() {
        let (full, full_receiver) = channel(2, Arc::new(NoWaker));
        let (free, free_receiver) = channel(9, Arc::new(NoWaker));
        let mut outbox = Outbox::new(vec![full, free]);
        for session in 1..=5 {
            outbox.send(ReactorId(0), gate(session));
        }
        outbox.send(ReactorId(1), gate(9));
        assert!(outbox.has_backlog());
        assert_eq!(received(&free_receiver), [9]);
        assert_eq!(received(&full_receiver), [1, 2]);
        outbox.send(ReactorId(0), gate(6));
        outbox.flush();
        assert_eq!(received(&full_receiver), [3, 4]);
        outbox.flush();
        assert_eq!(received(&full_receiver), [5, 6]);
        assert!(!outbox.has_backlog());
    }

    #[test]
    fn a_stopped_reactor_gets_nothing() {
        let (sender, receiver) = channel(1, Arc::new(NoWaker));
        let mut outbox = Outbox::new(vec![sender]);
        outbox.send(ReactorId(0), gate(1));
        outbox.send(ReactorId(0), gate(2));
        outbox.stopped(ReactorId(0));
        outbox.broadcast(|| gate(3));
        outbox.flush();
        assert_eq!(received(&receiver), [1]);
        assert!(!outbox.has_backlog());
        assert_eq!(outbox.running().count(), 0);
    }
}
