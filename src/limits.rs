//! Every bound of the process in one place, and the relations between them that must hold.

use crate::id::ReactorId;
use crate::time::SECOND_NS;

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
pub const LOGIN_NS: u64 = 15 * SECOND_NS;
/// A discovery session may be silent for so long.
pub const DISCOVERY_IDLE_NS: u64 = 60 * SECOND_NS;
/// A peer that was refused has so long to take the answer.
pub const REFUSED_NS: u64 = 2 * SECOND_NS;
/// Bytes that control receives from one connection per turn.
pub const LOGIN_TURN_BYTES: usize = 64 * 1024;
/// Connections accepted per turn and listener.
pub const ACCEPTS_PER_TURN: usize = 64;
/// Sessions, those included whose last IO has not come back from a device.
pub const SESSIONS_MAX: usize = 4096;
/// Nexuses remembered after their sessions, so that a new session is told of I_T NEXUS LOSS.
pub const KNOWN_NEXUSES_MAX: usize = 8192;
/// Initiators at targets of which sums are kept for themselves; those of all others are added up.
pub const LEDGER_MAX: usize = 1024;
/// Unit attentions that a nexus without a session is owed, at all its logical units together.
pub const OWED_MAX: usize = 64;
/// What happened to bdevs: so much of it is kept for those who ask.
pub const NOTICES_MAX: usize = 1024;
/// Targets.
pub const TARGETS_MAX: usize = 1024;
/// Pairs of portal group and initiator group of one target.
pub const TARGET_MAPS_MAX: usize = 256;
/// Portal groups that lead to one target.
pub const TARGET_PORTS_MAX: usize = 48;
/// An iSCSI alias, in bytes (RFC 7143 §13.6: a text of up to 255).
pub const ALIAS_BYTES_MAX: usize = 255;
/// Portal groups.
pub const PORTAL_GROUPS_MAX: usize = 256;
/// Portals of all groups.
pub const PORTALS_MAX: usize = 256;
/// Initiator groups.
pub const INITIATOR_GROUPS_MAX: usize = 1024;
/// Patterns of initiators whose IO is limited.
pub const INITIATOR_LIMITS_MAX: usize = 1024;
/// Names in one initiator group, and netmasks in one.
pub const INITIATORS_MAX: usize = 256;
/// A name or pattern in an initiator group, in bytes: an iSCSI name and a bit.
pub const INITIATOR_RULE_BYTES_MAX: usize = 255;
/// Authentication groups.
pub const AUTH_GROUPS_MAX: usize = 256;
/// Accounts in one authentication group.
pub const ACCOUNTS_MAX: usize = 256;
/// A CHAP name, in bytes (RFC 7143 §6.1: a text value has up to 255).
pub const CHAP_NAME_BYTES_MAX: usize = 255;
/// A CHAP secret, in bytes: far more than anybody needs.
pub const CHAP_SECRET_BYTES_MAX: usize = 1024;
/// Logical units; a power of two.
pub const UNITS_MAX: u32 = 4096;
/// Block devices, those included that are part of others.
pub const BDEVS_MAX: usize = 4096;
/// Media that were not found are looked for again so often.
pub const PROBE_NS: u64 = SECOND_NS;
/// Media that are looked for at once.
pub const PROBES_MAX: usize = 64;
/// Devices that are asked at once which of their blocks take space.
pub const SURVEYS_MAX: usize = 16;
/// Devices that erase all that they hold at once, each with a thread that waits for it.
pub const ERASURES_MAX: usize = 64;
/// The space that thinly provisioned disks take, and have left, is measured so often.
pub const SPACE_NS: u64 = 10 * SECOND_NS;
/// Namespaces of one NVMe controller that one reactor serves.
pub const NVME_CHANNELS_MAX: u32 = 256;
/// Mappings that a reactor's buffers are cut from, as far as an NVMe controller is concerned.
pub const NVME_REGIONS_MAX: usize = 8;
/// Pairs of IO queues that an NVMe controller is asked for beside those of the reactors, for other threads ([`GUEST`]).
pub const NVME_GUESTS: u16 = 4;
/// A reactor that waits for an NVMe controller's thread looks again so soon.
pub const NVME_TICK_NS: u64 = crate::time::MS_NS;
/// Where a medium failed is asked of an NVMe controller for so long.
pub const NVME_ASK_NS: u64 = SECOND_NS;
/// Changes that wait for devices or sessions at once.
pub const CHANGES_MAX: usize = 256;
/// Seconds that initiators get to log out of a target that is deleted.
pub const DELETE_SECONDS: u16 = 3;
/// Who deletes a target is answered after so long, be it complete or not.
pub const DELETE_NS: u64 = 30 * SECOND_NS;
/// Initiator groups that find LUNs of their own at one target.
pub const TARGET_LUN_MAPS_MAX: usize = 64;
/// Records of the state file.
pub const RECORDS_MAX: usize = 16_384;
/// The state file does not grow beyond this.
pub const STATE_BYTES_MAX: usize = 128 << 20;
/// A command that waits for the state file fails after so long.
pub const SAVE_NS: u64 = 20 * SECOND_NS;
/// What could not be written is written again so much later.
pub const SAVE_RETRY_NS: u64 = SECOND_NS;
/// Barriers in flight; a task management function beyond is rejected.
pub const BARRIERS_MAX: usize = 256;
/// Messages of the reactors to control that may wait in its queue.
pub const TO_CONTROL_MAX: usize = 8192;
/// Control looks again so soon whether a reactor's full queue has room.
pub const BACKLOG_RETRY_NS: u64 = crate::time::MS_NS;
/// Seconds that initiators get to log out when the daemon is asked to stop.
pub const DRAIN_SECONDS: u16 = 10;
/// After the drain reactors have so long to give everything back.
pub const STOP_NS: u64 = 6 * SECOND_NS;
/// Facts that are kept for who listens to them.
pub const FACTS_MAX: usize = 1024;
/// Log lines a minute that peers can cause: of one kind, and of all kinds with the summary of what was left out.
pub const LOG_LINES_PER_KIND: usize = 6;
/// See [`LOG_LINES_PER_KIND`].
pub const LOG_LINES: usize = 20;

const _: () = assert!(SESSIONS_MAX < u16::MAX as usize, "each session has a TSIH of its own");
const _: () =
    assert!(UNITS_MAX.is_power_of_two() && UNITS_MAX < 1 << 16, "a unit's index and tenancy share 32 bits");
const _: () = assert!(BDEVS_MAX <= UNITS_MAX as usize, "each bdev can be served");
const _: () = assert!(
    TARGETS_MAX * TARGET_PORTS_MAX + SESSIONS_MAX < u16::MAX as usize,
    "each port has a relative identifier of its own, those included that sessions hold on to"
);
const _: () =
    assert!(DELETE_NS > DELETE_SECONDS as u64 * SECOND_NS + DRAIN_NS + SWALLOW_NS, "sessions drain first");
const _: () = assert!(SESSIONS_MAX <= KNOWN_NEXUSES_MAX);
const _: () = assert!(STOP_NS > LAST_FLUSH_NS, "a reactor that stops flushes first");
const _: () = assert!(SESSIONS_MAX <= CONNS_MAX as usize, "one reactor can have them all");

/// Logical units of one target.
pub const TARGET_LUNS_MAX: usize = 1024;
/// Unit attentions that wait for one nexus at one logical unit; one entry per code.
pub const ATTENTIONS_MAX: usize = 16;
/// Registrations (PERSISTENT RESERVE OUT) of one logical unit; one more is refused with 55h/04h.
pub const REGISTRATIONS_MAX: usize = 1024;

/// Connections of one session, at most.
pub const SESSION_CONNS_MAX: usize = 16;
/// A reactor tells control of a session's ExpCmdSN when it has gone so far: what a further connection is told at login must not be
/// as old as to look new (RFC 1982).
pub const CMD_SN_TOLD_STEPS: u32 = 1 << 24;
/// Commands a session may have outstanding when it begins, and always.
pub const WINDOW_MIN: u32 = 8;
/// Commands a session may have outstanding, at most.
pub const WINDOW_MAX: u32 = 128;
/// Immediate commands a connection may have outstanding beside the window; more are rejected (06h).
pub const IMMEDIATE_MAX: u32 = 4;
/// R2Ts outstanding per task, at most (MaxOutstandingR2T is negotiated down to it).
pub const R2TS_MAX: usize = 8;
/// A command that would wait longer for its turn under a ceiling (`bdev_set_qos_limit`) is answered TASK SET FULL: initiators
/// give up what takes longer than 30 s, most of them.
pub const PACED_NS: u64 = 10 * SECOND_NS;
/// Data that came along with a session's commands which wait so, at most; what comes with more is dropped and answered TASK SET
/// FULL. It is what a queue of 32 has with a FirstBurstLength of 64 KiB.
pub const PACED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Device IOs in flight per command, at most.
pub const PLAN_IOS: u8 = 2;

const _: () = assert!(WINDOW_MAX <= 128, "Window::taken has 128 bits");
const _: () = assert!(WINDOW_MIN.is_power_of_two() && WINDOW_MAX.is_power_of_two());

/// Device IOs of one reactor, at most, and so the indices of their tags: every command of every session has all of its own.
pub const IOS_MAX: u32 =
    (CONNS_MAX * (WINDOW_MIN + IMMEDIATE_MAX) + SPARE_WINDOW + RETAINING_CONNS_MAX * RETAINED_TASKS_MAX)
        * PLAN_IOS as u32;
/// Connections of one reactor that keep what they have answered until it is acknowledged: those at error recovery levels above 0.
/// Others at such levels have nothing to resend.
pub const RETAINING_CONNS_MAX: u32 = 64;
/// Numbered PDUs that such a connection keeps; the oldest go first.
pub const RETAINED_MAX: usize = WINDOW_MAX as usize;
/// Answered tasks that it has: those whose responses are kept, and immediate ones whose responses wait to be sent. For so many the
/// table has room.
pub const RETAINED_TASKS_MAX: u32 = WINDOW_MAX + CONTROL_REPLIES_MAX;
/// Data of a READ are sent again (RFC 7143 §11.16) if they are no more than this: their place is counted PDU by PDU.
pub const RESEND_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Pieces of data that such a connection keeps, so that they can be sent again; for the data of more there is no room.
pub const RETAINED_PIECES_MAX: usize = 256;
const _: () = assert!(RETAINED_PIECES_MAX >= WINDOW_MAX as usize, "a window of short READs is kept");

/// PDUs whose headers a connection's flight recorder has: 64 bytes each.
pub const RECORDED_PDUS: usize = 128;
/// Connections whose recordings a reactor copies in one turn.
pub const RECORDINGS_MAX: usize = 64;
/// Slow commands that a reactor tells of in one turn, and in one second; others are counted.
pub const SLOW_IOS_A_TURN: usize = 16;
/// See [`SLOW_IOS_A_TURN`].
pub const SLOW_IOS_A_SECOND: u32 = 64;
/// Commands that a reactor tells of when it is asked for those in flight.
pub const COMMANDS_TOLD_MAX: usize = 1024;

/// PDUs of one vectored send: three slices each, and Linux takes 1024.
pub const BATCH_PDUS: usize = 128;
/// Bytes of one vectored send, about.
pub const BATCH_BYTES: usize = 1024 * 1024;
const _: () = assert!(3 * BATCH_PDUS <= 1024);

/// Additional header segments of one PDU, at most: the rest of a CDB of 260 bytes, the longest that there are, and a length to read.
pub const AHS_BYTES_MAX: usize = 256;
/// Answers to NOP-Out, Text and the like, and Rejects, that may wait to be sent on one connection.
pub const CONTROL_REPLIES_MAX: u32 = 64;
/// Bytes of such answers, echoes and texts, on one connection; what asks for more has its data dropped and is rejected
/// (06h; a text 0Ah).
pub const CONTROL_BYTES_MAX: u64 = 512 * 1024;
/// Data queued on one connection beyond which no further piece of a READ is asked of a device.
pub const TX_UNSENT_BYTES_MAX: u64 = 1024 * 1024;
const _: () = assert!(CONTROL_BYTES_MAX >= PIECE_BYTES_MAX as u64, "one echo of any length is answered");
/// Task management functions of one session in progress; more are rejected (06h).
pub const TMFS_MAX: u32 = 8;
/// A PDU that was begun has to be complete after so long.
pub const PDU_NS: u64 = 30 * SECOND_NS;
/// What we send has to make progress in so long.
pub const SEND_NS: u64 = 30 * SECOND_NS;
/// Data that we asked for have to make progress in so long.
pub const DATA_OUT_NS: u64 = 30 * SECOND_NS;
/// The response to a task management function that covers several tasks waits so long for data still owed.
pub const SWALLOW_NS: u64 = 2 * SECOND_NS;
/// A connection that answered a Logout, or was told to close, has so long to take the last bytes.
pub const LINGER_NS: u64 = 2 * SECOND_NS;
/// Text of one negotiation in full feature phase, each way.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Connections of one reactor.
pub const CONNS_MAX: u32 = 4096;
/// Connections for which a reactor's tables grow at once.
pub const CONNS_STEP: u32 = 32;
/// Commands by which the windows of one reactor's sessions may grow beyond [`WINDOW_MIN`], together.
pub const SPARE_WINDOW: u32 = 2048;
/// Bytes received from one connection before the next has its turn, beside those of a data segment that is under way.
pub const STAGING_BYTES: usize = 256 * 1024;
/// So many where none is under way: then they may be many commands, and others wait for all of them. 32 of them with 4 KiB of data
/// each fit, digests included.
pub const RECEIVE_BYTES: usize = 136 * 1024;
const _: () = assert!(RECEIVE_BYTES <= STAGING_BYTES && 32 * (48 + 4 + 4096 + 4) <= RECEIVE_BYTES);
/// A connection that moved so much when it was served last, both ways, is heavy: it waits until those that are not are answered.
pub const HEAVY_BYTES: usize = 16 * 1024;
/// Heavy connections are served in one turn until they have received, or have to be sent, so much together.
pub const HEAVY_TURN_BYTES: usize = 64 * 1024;
/// A command of at most so many bytes that is cut in two where a receive ends waits for the rest before it is looked at.
pub const CUT_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(CUT_BYTES_MAX <= RECEIVE_BYTES / 2, "the rest is received at once");
/// Sockets that one wait may name.
pub const READY_MAX: usize = 256;
/// Messages a reactor takes in one turn.
pub const MESSAGES_PER_TURN: usize = 16;
/// Messages that may wait for a reactor or for control.
pub const MAILBOX: usize = 1024;
/// Commands that a reactor lets go on in one turn whose time under a ceiling has come.
pub const PACED_PER_TURN: usize = 256;
/// Completions a reactor takes from one channel in one turn.
pub const DONES_PER_POLL: usize = 256;
/// Deadlines are looked at so often while there is work.
pub const TIMER_GRAIN_NS: u64 = 100 * crate::time::MS_NS;
/// An aborted IO that its device has kept for so long is fenced, or the function that waits is rejected.
pub const DRAIN_NS: u64 = 20 * SECOND_NS;
/// An adaptive reactor polls for so long at most after its last work before it waits in the kernel.
pub const SPIN_NS: u64 = 50_000;
/// At the end, devices have so long to flush.
pub const LAST_FLUSH_NS: u64 = 5 * SECOND_NS;
/// An idle reactor looks at its deadlines so often at least.
pub const IDLE_SCAN_NS: u64 = 60 * SECOND_NS;
/// Functions, barriers and session ends that may wait for devices at once, beyond which room is made anew.
pub const WAITS: usize = 64;
/// Reactors of one process: a set of them is one word.
pub const REACTORS_MAX: usize = 128;
/// Whose channels those of threads are that are no reactor's: mirrors are watched over by such. What there is of anything is for reactors first.
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
pub const GUEST: ReactorId = ReactorId(REACTORS_MAX as u16);
/// Channels of such threads to one device, at most.
pub const GUESTS_MAX: usize = 8;
/// Holds that the commands of one reactor may have or wait for; a command beyond is answered BUSY. What a home reactor has
/// still to tell of them is kept in their records, this many for each reactor: there is no queue beside the ports.
pub const HOLDS_MAX: u32 = 128;
/// A hold that is not granted in so long is refused, and the command of one that is not over in so long ended.
pub const HOLD_NS: u64 = 25 * SECOND_NS;
const _: () = assert!(HOLDS_MAX >= WINDOW_MAX, "one session alone is never answered BUSY for that");
const _: () = assert!(HOLD_NS > DRAIN_NS + SWALLOW_NS, "a device that can be fenced does not cost the hold");

/// Ranges of tokens that each reactor watches, those of all reactors' tokens together; a token beyond is refused.
pub const WATCHES_MAX: usize = 256;

/// Memory for one reactor's buffers, unless the operator says otherwise.
pub const POOL_BYTES: usize = 128 * 1024 * 1024;
/// The least that makes sense: a few buffers of each size in either pool.
pub const POOL_BYTES_MIN: usize = 8 * 1024 * 1024;

/// Versions of the configuration that are kept.
pub const CONFIG_VERSIONS_MAX: usize = 20;
/// Bytes of a configuration file: far more than as many of everything as there may be.
pub const CONFIG_BYTES_MAX: u64 = 256 << 20;
/// Connections of the JSON-RPC socket; more are turned away.
pub const RPC_CONNS_MAX: usize = 64;
/// Connections by TLS that have not shown a token yet; one more ends the oldest.
pub const RPC_STRANGERS_MAX: usize = 16;
/// A client has so long for TLS's handshake and its token together.
pub const RPC_HANDSHAKE_NS: u64 = 10 * SECOND_NS;
/// Bytes of a token.
pub const RPC_TOKEN_BYTES_MAX: usize = 1024;
/// Bytes of one JSON-RPC request or batch.
pub const RPC_REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Levels of arrays and objects in one; the parser recurses.
pub const RPC_DEPTH_MAX: usize = 64;
/// Calls in one batch.
pub const RPC_BATCH_CALLS_MAX: usize = 8192;
/// A JSON-RPC request that was begun has to be complete after so long.
pub const RPC_REQUEST_NS: u64 = 60 * SECOND_NS;
/// A client that takes nothing of its answer for so long is given up.
pub const RPC_SEND_NS: u64 = 30 * SECOND_NS;
