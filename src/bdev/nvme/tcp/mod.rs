//! Controllers over NVMe/TCP (NVM Express TCP Transport Specification 1.0, here "TCP"): the host's side.
//!
//! * [`pdu`] is what stands on the wire, [`wire`] the machine of one connection: bytes in, bytes out, no socket.
//! * [`queue`] is a pair of IO queues on a reactor: a [`wire`] and its socket. A payload goes from the buffer to the socket
//!   and from the socket to the buffer without a copy; nothing is allocated after the pair was made.
//! * [`link`](mod@link) is the same for the controller's thread, [`transport`] its administration with them, [`discovery`] who
//!   asks a discovery controller what there is.
//!
//! Not done on purpose: TLS, in-band authentication, PDUs aligned for the host (HPDA is 0).

mod bring_up;
pub(crate) mod discovery;
mod fabrics;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod fuzz;
mod link;
pub(crate) mod pdu;
mod queue;
mod socket;
pub(crate) mod transport;
mod wire;

#[cfg(test)]
mod tests;
