//! Every bound of the process in one place, and the relations between them that must hold.

/// Pieces a command's data are cut into: what one buffer holds and one device IO moves, at most.
pub const PIECE_BYTES_MAX: u32 = 256 * 1024;
/// Parameter data (INQUIRY, REPORT LUNS, …) of one command, at most.
pub const PARAMETER_BYTES_MAX: u32 = 64 * 1024;
/// Sense data, at most (SPC-5 §4.4: 252).
pub const SENSE_BYTES_MAX: usize = 64;

/// Connections that have not reached full feature phase yet.
pub const LOGINS_MAX: u32 = 128;
/// Discovery sessions.
pub const DISCOVERIES_MAX: u32 = 64;
/// A login has so long in all.
pub const LOGIN_NS: u64 = 15 * crate::time::SECOND_NS;
/// A discovery session may be silent for so long.
pub const DISCOVERY_IDLE_NS: u64 = 60 * crate::time::SECOND_NS;
/// A peer that was refused has so long to take the answer.
pub const REFUSED_NS: u64 = 2 * crate::time::SECOND_NS;
/// Bytes that control receives from one connection per turn.
pub const LOGIN_TURN_BYTES: usize = 64 * 1024;
/// Connections accepted per turn and listener.
pub const ACCEPTS_PER_TURN: usize = 64;
/// Sessions, those included whose last IO has not come back from a device.
pub const SESSIONS_MAX: usize = 4096;
/// Nexuses remembered after their sessions, so that a new session is told of I_T NEXUS LOSS.
pub const KNOWN_NEXUSES_MAX: usize = 8192;
/// Targets.
pub const TARGETS_MAX: usize = 1024;
/// Barriers in flight; a task management function beyond is rejected.
pub const BARRIERS_MAX: usize = 256;
/// Messages of a reactor to control that may wait.
pub const TO_CONTROL_MAX: usize = 8192;
/// Messages of control to one reactor that may wait in the queue; further ones wait with control.
pub const TO_REACTOR_MAX: usize = 1024;
/// Control looks again so soon whether a reactor's full queue has room.
pub const BACKLOG_RETRY_NS: u64 = crate::time::MS_NS;
/// Seconds that initiators get to log out when the daemon is asked to stop.
pub const DRAIN_SECONDS: u16 = 10;
/// After the drain reactors have so long to give everything back.
pub const STOP_NS: u64 = 2 * crate::time::SECOND_NS;
/// Log lines a minute that peers can cause: of one kind, and of all kinds with the summary of what was left out.
pub const LOG_LINES_PER_KIND: usize = 6;
/// See [`LOG_LINES_PER_KIND`].
pub const LOG_LINES: usize = 20;

const _: () = assert!(SESSIONS_MAX < u16::MAX as usize, "each session has a TSIH of its own");
const _: () = assert!(SESSIONS_MAX <= KNOWN_NEXUSES_MAX);
/// Logical units of one target.
pub const TARGET_LUNS_MAX: usize = 1024;
/// Unit attentions that wait for one nexus at one logical unit; one entry per code.
pub const ATTENTIONS_MAX: usize = 8;
