//! Every bound of the process in one place, and the relations between them that must hold.

/// Pieces a command's data are cut into: what one buffer holds and one device IO moves, at most.
pub const PIECE_BYTES_MAX: u32 = 256 * 1024;
/// Parameter data (INQUIRY, REPORT LUNS, …) of one command, at most.
pub const PARAMETER_BYTES_MAX: u32 = 64 * 1024;
/// Sense data, at most (SPC-5 §4.4: 252).
pub const SENSE_BYTES_MAX: usize = 64;
/// Logical units of one target.
pub const TARGET_LUNS_MAX: usize = 1024;
/// Unit attentions that wait for one nexus at one logical unit; one entry per code.
pub const ATTENTIONS_MAX: usize = 8;
