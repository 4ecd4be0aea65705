//! What login asks of the control thread.

use std::sync::Arc;

use super::Refusal;
use crate::id::SessionId;
use crate::iscsi::chap;
use crate::iscsi::negotiate::Offer;
use crate::iscsi::params::Params;
use crate::iscsi::sn::Sn;
use crate::scsi::view::TargetView;

/// How an initiator gets in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Without proof; one that insists on CHAP is refused, as there is no secret to compare with.
    Open,
    /// With CHAP, or without where the policy does not require it.
    Chap(chap::Policy),
}

/// A target that an initiator may log in to.
#[derive(Clone, Debug)]
pub struct TargetAccess {
    /// How.
    pub access: Access,
    /// Which.
    pub target: Arc<TargetView>,
    /// Our side of the negotiation.
    pub offer: Offer,
}

/// Which targets SendTargets asks for (RFC 7143 appendix C).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which<'a> {
    /// Every one that the initiator may see.
    All,
    /// The one of this name, lower case, if the initiator may see it.
    Name(&'a str),
}

/// What a login that is about to succeed wants.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The initiator's name, lower case.
    pub initiator: &'a str,
    /// ISID.
    pub isid: [u8; 6],
    /// 0 for a new session (which may replace one of the same nexus), else the session to join (RFC 7143 §6.3.1).
    pub tsih: u16,
    /// Connection ID.
    pub cid: u16,
    /// CmdSN of the first request.
    pub cmd_sn: Sn,
    /// None for a discovery session.
    pub target: Option<&'a Arc<TargetView>>,
    /// What was negotiated; meaningless where it is the session's and not the connection's and `tsih` is not 0.
    pub params: &'a Params,
}

/// The claim is honoured: the session exists from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The session.
    pub session: SessionId,
    /// Its TSIH, never 0.
    pub tsih: u16,
    /// Commands the initiator may send at once: MaxCmdSN = ExpCmdSN + this - 1. At least 1, but 0 where it joins: it knows more
    /// of the session's window than control does.
    pub window: u32,
    /// Set where the connection joins a session that was there (TSIH not 0).
    pub joined: Option<Joined>,
}

/// What a connection finds in the session it joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The session's parameters; digests and segment lengths are replaced by this connection's.
    pub params: Params,
    /// The session's ExpCmdSN, or an older one, which tells the initiator nothing new.
    pub exp_cmd_sn: Sn,
}

/// The control thread as login and discovery see it. Names come in lower case; nothing here may block.
pub trait Authority {
    /// Whether an initiator may open a discovery session, and how.
    ///
    /// # Errors
    /// What to tell it instead.
    fn discovery(&self, initiator: &str) -> Result<Access, Refusal>;

    /// Whether an initiator may log in to the target called `name`, and how. Redirection is decided here.
    ///
    /// # Errors
    /// What to tell it instead: [`Refusal::NotFound`], [`Refusal::Forbidden`], [`Refusal::Removed`],
    /// [`Refusal::MovedTemporarily`] and so on.
    fn target(&self, name: &str, initiator: &str) -> Result<TargetAccess, Refusal>;

    /// Called once, just before the final response is made and after everything else has been checked: session
    /// reinstatement, TSIH and CID rules, resources (RFC 7143 §6.3.1, §6.3.5). What is granted is in force at once; should the
    /// connection break before [`super::Login::into_established`], control takes it back ([`super::Login::granted`]).
    ///
    /// # Errors
    /// What to tell the initiator instead: [`Refusal::NoSuchSession`], [`Refusal::TooManyConnections`],
    /// [`Refusal::OutOfResources`] and so on.
    fn claim(&mut self, claim: &Claim<'_>) -> Result<Granted, Refusal>;

    /// Fills `out` with bytes nobody can guess.
    fn random(&mut self, out: &mut [u8]);

    /// Hands each target that `initiator` may see, of those asked for, to `out`.
    fn send_targets(&self, initiator: &str, which: Which<'_>, out: &mut dyn FnMut(&TargetView));
}
