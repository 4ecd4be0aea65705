//! The cases: what is replayed, each at its queue depth on so many reactors and LUNs.

/// What the disks are made of. A file is not among them: its completions come when the kernel likes, and with them the
/// turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Disk {
    /// Memory.
    Ram,
    /// Nothing.
    Null,
}

/// A case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) is_write: bool,
    pub(crate) bytes: u32,
    pub(crate) depth: u32,
    /// Digests of headers and data.
    pub(crate) digests: bool,
    /// The target asks for all data of writes.
    pub(crate) is_solicited: bool,
    pub(crate) disk: Disk,
    /// Each with one session.
    pub(crate) reactors: u16,
    /// Each session's commands go to them in turn.
    pub(crate) luns: u16,
    /// Commands of each session that count.
    pub(crate) commands: u32,
}

const READ_4K: Case = Case {
    name: "read_4k",
    is_write: false,
    bytes: 4096,
    depth: 32,
    digests: false,
    is_solicited: false,
    disk: Disk::Ram,
    reactors: 1,
    luns: 1,
    commands: 3200,
};
const WRITE_4K: Case = Case { name: "write_4k", is_write: true, ..READ_4K };

/// All of them.
pub(crate) const CASES: &[Case] = &[
    READ_4K,
    WRITE_4K,
    Case { name: "read_4k_qd1", depth: 1, commands: 800, ..READ_4K },
    Case { name: "write_4k_qd1", depth: 1, commands: 800, ..WRITE_4K },
    Case { name: "read_4k_digests", digests: true, ..READ_4K },
    Case { name: "write_4k_digests", digests: true, ..WRITE_4K },
    Case { name: "read_512", bytes: 512, ..READ_4K },
    Case { name: "read_128k", bytes: 131_072, commands: 320, ..READ_4K },
    Case { name: "write_128k", bytes: 131_072, commands: 320, ..WRITE_4K },
    Case { name: "write_4k_solicited", is_solicited: true, ..WRITE_4K },
    Case { name: "write_128k_solicited", bytes: 131_072, is_solicited: true, commands: 320, ..WRITE_4K },
    Case { name: "read_4k_null", disk: Disk::Null, ..READ_4K },
    Case { name: "write_4k_null", disk: Disk::Null, ..WRITE_4K },
    Case { name: "read_4k_luns_8", luns: 8, ..READ_4K },
    Case { name: "read_4k_luns_64", luns: 64, ..READ_4K },
    Case { name: "read_4k_reactors_2", reactors: 2, commands: 1600, ..READ_4K },
    Case { name: "read_4k_reactors_8", reactors: 8, commands: 640, ..READ_4K },
    Case { name: "read_4k_reactors_64", reactors: 64, commands: 320, ..READ_4K },
];
