//! Commands of NVMe over Fabrics (Base §6): Connect, Property Get and Set. Their type stands where others have the namespace.

use crate::bdev::nvme::spec::{Command, Completion, admin};

const PROPERTY_SET: u32 = 0x00;
const CONNECT: u32 = 0x01;
const PROPERTY_GET: u32 = 0x04;

/// Properties that are used (Base §3.1.3).
pub(super) mod property {
    pub(crate) const CAP: u32 = 0x00;
    pub(crate) const VS: u32 = 0x08;
    pub(crate) const CC: u32 = 0x14;
    pub(crate) const CSTS: u32 = 0x1C;
}

/// Length of what Connect brings along.
pub(super) const CONNECT_BYTES: usize = 1024;
/// Any controller of the subsystem.
pub(super) const CONTROLLER_ANY: u16 = 0xFFFF;
/// A qualified name, at most, in bytes, without the NUL behind it (Base §4.5).
pub(crate) const NQN_BYTES_MAX: usize = 223;

/// Connect of a queue (Base §6.3). Flow control by SQHD is switched off: never more commands are sent than the queue holds,
/// and only so may the controller end a command with its last data.
pub(super) fn connect(queue: u16, entries: u16, keep_alive_ms: u32) -> Command {
    const NO_FLOW_CONTROL: u32 = 1 << 2;
    Command {
        opcode: admin::FABRICS,
        nsid: CONNECT,
        cdw10: [
            u32::from(queue) << 16,
            u32::from(entries.saturating_sub(1)) | NO_FLOW_CONTROL << 16,
            keep_alive_ms,
            0,
            0,
            0,
        ],
        ..Command::default()
    }
}

/// What Connect brings along.
pub(super) fn connect_data(
    host_id: [u8; 16],
    controller: u16,
    subnqn: &str,
    hostnqn: &str,
) -> [u8; CONNECT_BYTES] {
    let mut data = [0; CONNECT_BYTES];
    data[..16].copy_from_slice(&host_id);
    data[16..18].copy_from_slice(&controller.to_le_bytes());
    for (at, name) in [(256, subnqn), (512, hostnqn)] {
        let bytes = name.len().min(NQN_BYTES_MAX);
        data[at..at + bytes].copy_from_slice(&name.as_bytes()[..bytes]);
    }
    data
}

/// What is wrong with a Connect, in words, by its completion (Base figure 391).
pub(super) fn connect_failed(completion: &Completion) -> Option<String> {
    let status = completion.status;
    if status.is_ok() {
        return None;
    }
    Some(match (status.kind(), status.code()) {
        (1, 0x80) => "it does not know the format of Connect".to_owned(),
        (1, 0x81) => "the controller is busy with another host".to_owned(),
        (1, 0x82) => {
            // Result: where the wrong one begins, in the data where bit 16 is set.
            let at = completion.result & 0xFFFF;
            let name = match (completion.result >> 16 & 1, at) {
                (1, 256) => "there is no such subsystem",
                (1, 512) => "the host's NQN is not accepted",
                (1, 16) => "there is no such controller",
                _ => "Connect has an invalid parameter",
            };
            format!("{name} (at {at})")
        }
        (1, 0x83) => "its discovery has to be repeated".to_owned(),
        (1, 0x84) => "this host is not allowed: allow its NQN at the subsystem".to_owned(),
        (1, 0x91) => "it wants authentication within the connection, which is not supported".to_owned(),
        _ => format!("Connect ended with status {:#x}", status.bits()),
    })
}

/// Property Get (Base §6.4): of 8 bytes, or of 4.
pub(super) fn property_get(offset: u32, is_long: bool) -> Command {
    Command {
        opcode: admin::FABRICS,
        nsid: PROPERTY_GET,
        cdw10: [u32::from(is_long), offset, 0, 0, 0, 0],
        ..Command::default()
    }
}

/// Property Set (Base §6.6), of 4 bytes.
pub(super) fn property_set(offset: u32, value: u32) -> Command {
    Command {
        opcode: admin::FABRICS,
        nsid: PROPERTY_SET,
        cdw10: [0, offset, value, 0, 0, 0],
        ..Command::default()
    }
}
