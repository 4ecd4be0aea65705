//! An iSCSI initiator (RFC 7143), sans-IO, with a socket driver.
//!
//! It exists to test targets: it checks everything that the target says, and a wrong answer is a [`Violation`],
//! never silently repaired. It shares no encoder, no key table, no CHAP and no checksum call with the target,
//! so that what a test expects does not come from the code under test.
//!
//! * [`pdu`]: every PDU of both directions, and ways to send wrong ones;
//! * [`login`]: the login phase as a state machine; [`chap`] beside it;
//! * [`session`]: one session on one connection: bytes in, bytes out, commands in, events out. It reads no clock,
//!   draws no random number and starts no thread, so a simulator can run many on one thread;
//! * [`scsi`]: CDBs and sense data; [`lun`]: LUN fields;
//! * [`socket`]: a driver over TCP, pleasant for tests.
//!
//! Not done on purpose: several connections in a session, error recovery within a connection (data acknowledgements
//! apart), bidirectional commands.

pub mod chap;
pub mod config;
pub mod login;
pub mod lun;
pub mod pdu;
pub mod scsi;
pub mod session;
pub mod sn;
pub mod socket;
pub mod text;

pub use config::{Auth, Chap, Config, Offer, Params};
pub use login::LoginError;
pub use session::{Command, Data, Event, Initiator, Violation};
pub use sn::Serial;
pub use socket::Client;
