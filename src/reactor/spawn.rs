//! stub: stands in until reactors are there. It closes what it is given.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use crate::buf::Hugepages;
use crate::id::ReactorId;
use crate::net::kernel::KernelNet;
use crate::net::{Net, Wait, WakeFd};
use crate::reactor::message::{ToControl, ToReactor};
use crate::reactor::port::{Receiver, Sender};

/// What a reactor does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// It polls on.
    Spin,
    /// It polls for a while, then waits in the kernel.
    Adaptive,
    /// It waits in the kernel.
    Park,
}

/// What a reactor is made of.
#[derive(Debug)]
pub struct Recipe {
    /// Which.
    pub id: ReactorId,
    /// Where it is pinned.
    pub cpu: Option<usize>,
    /// When there is nothing to do.
    pub idle: Idle,
    /// What its buffers are made of.
    pub hugepages: Hugepages,
    /// How much of them.
    pub pool_bytes: u64,
    /// From control.
    pub inbox: Receiver<ToReactor<OwnedFd>>,
    /// What the inbox's waker wakes.
    pub inbox_wake: WakeFd,
    /// To control.
    pub to_control: Sender<ToControl>,
}

/// Starts a reactor.
pub fn spawn(recipe: Recipe) -> io::Result<JoinHandle<()>> {
    #[expect(clippy::disallowed_methods, reason = "a reactor's thread is born here")]
    Ok(std::thread::spawn(move || {
        let mut net = KernelNet::new(1).expect("stub");
        net.register(recipe.inbox_wake.raw()).expect("stub");
        let _ = recipe.inbox_wake.raw().as_raw_fd();
        loop {
            while let Some(message) = recipe.inbox.receive() {
                match message {
                    ToReactor::Adopt(adopt) => {
                        let session = adopt.session;
                        let _ = recipe.to_control.send(ToControl::SessionEnded { session, is_logout: false });
                        let _ = recipe.to_control.send(ToControl::SessionDrained { session });
                    }
                    ToReactor::Barrier { id, .. } => {
                        let (reactor, is_clean) = (recipe.id, true);
                        let _ = recipe.to_control.send(ToControl::BarrierDone { id, reactor, is_clean });
                    }
                    ToReactor::Drain { .. } | ToReactor::Stop => {
                        let _ = recipe.to_control.send(ToControl::Stopped { reactor: recipe.id });
                        return;
                    }
                    _ => {}
                }
            }
            if recipe.inbox.may_sleep() {
                net.ready(&mut Vec::with_capacity(1), Wait::Forever);
                recipe.inbox.awake();
            }
            recipe.inbox_wake.drain();
        }
    }))
}
