//! Asks a discovery controller which subsystems there are: the discovery log page, 70h (Base §5.16.1.23).

use std::net::{IpAddr, SocketAddr};

use super::transport::{Options, TcpTransport};
use crate::bdev::nvme::spec::{Command, admin};
use crate::bdev::nvme::transport::{ADMIN_DATA_BYTES, AdminData, Progress, Transport};
use crate::time::{SECOND_NS, Tick};

const DISCOVERY_LOG: u32 = 0x70;
/// Length of the log's header and of each entry.
const ENTRY_BYTES: usize = 1024;
/// Entries that are asked for at once.
const ENTRIES_PER_PAGE: usize = ADMIN_DATA_BYTES / ENTRY_BYTES;
/// More than anybody has: a log that never ends is cut.
const ENTRIES_MAX: usize = 1024;
/// So often a log is read anew that changed meanwhile.
const TRIES_MAX: u32 = 5;
/// A page of the log comes within this.
const PAGE_NS: u64 = 10 * SECOND_NS;
const CID: u16 = 1;

/// A way to reach an NVM subsystem, or to another discovery service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// TRTYPE: 3 is TCP.
    pub(crate) transport: u8,
    /// ADRFAM: 1 is IPv4, 2 is IPv6.
    pub(crate) family: u8,
    /// What is there.
    pub(crate) kind: Kind,
    /// The port, in words of the transport.
    pub(crate) service: String,
    /// Whose.
    pub(crate) subnqn: String,
    /// The address, in words of the transport.
    pub(crate) address: String,
}

/// SUBTYPE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Another discovery service.
    Referral,
    /// An NVM subsystem.
    Subsystem,
    /// This discovery service itself.
    Current,
    /// Something else.
    Unknown(u8),
}

impl Entry {
    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        Entry {
            transport: bytes[0],
            family: bytes[1],
            kind: match bytes[2] {
                1 => Kind::Referral,
                2 => Kind::Subsystem,
                3 => Kind::Current,
                other => Kind::Unknown(other),
            },
            service: text(&bytes[32..64]),
            subnqn: text(&bytes[256..512]),
            address: text(&bytes[512..768]),
        }
    }

    /// Where it is, when it is reached over TCP.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        if self.transport != 3 {
            return None;
        }
        Some(SocketAddr::new(self.address.parse::<IpAddr>().ok()?, self.service.parse().ok()?))
    }

    /// TRTYPE in words.
    pub(crate) fn transport_name(&self) -> &'static str {
        match self.transport {
            1 => "rdma",
            2 => "fc",
            3 => "tcp",
            254 => "loop",
            _ => "unknown",
        }
    }
}

/// Printable ASCII that ends at the first NUL, without spaces around.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let printable =
        |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
    bytes[..end].iter().map(printable).collect::<String>().trim().to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Start,
    /// The header, before the entries.
    Header,
    Entries,
    /// The header again: whether it is still the same log.
    Again,
    Stop,
}

/// A query of a discovery controller, driven by polling.
#[derive(Debug)]
pub(crate) struct Discovery {
    transport: TcpTransport,
    step: Step,
    deadline: Tick,
    tries: u32,
    generation: u64,
    count: usize,
    entries: Vec<Entry>,
    outcome: Option<Result<(), String>>,
}

impl Discovery {
    /// Begins; `options` name the discovery subsystem.
    pub(crate) fn start(options: Options, now: Tick) -> Discovery {
        // It is asked once, so it need not watch whether we live.
        let mut transport = TcpTransport::new(Options { keep_alive_ms: 0, ..options });
        transport.start(now);
        Discovery {
            transport,
            step: Step::Start,
            deadline: now,
            tries: 0,
            generation: 0,
            count: 0,
            entries: Vec::new(),
            outcome: None,
        }
    }

    /// The entries, once they are there.
    pub(crate) fn poll(&mut self, now: Tick) -> Progress<Vec<Entry>> {
        match self.step {
            Step::Start => match self.transport.poll_start(now) {
                Progress::Pending => {}
                Progress::Failed(why) => return Progress::Failed(why),
                Progress::Ready(_) => self.read_header(Step::Header, now),
            },
            Step::Header | Step::Entries | Step::Again => {
                if let Err(why) = self.poll_log(now) {
                    self.end(Err(why), now);
                }
            }
            Step::Stop => {
                if !matches!(self.transport.poll_stop(now), Progress::Pending) {
                    return match self.outcome.take() {
                        Some(Err(why)) => Progress::Failed(format!("{}: {why}", self.transport.name())),
                        _ => Progress::Ready(std::mem::take(&mut self.entries)),
                    };
                }
            }
        }
        Progress::Pending
    }

    fn end(&mut self, outcome: Result<(), String>, now: Tick) {
        self.outcome = Some(outcome);
        self.step = Step::Stop;
        self.transport.stop(now);
    }

    fn read(&mut self, at: usize, bytes: usize, now: Tick) {
        self.deadline = now.after_ns(PAGE_NS);
        let half = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let dwords = half(bytes / 4 - 1);
        let command = Command {
            opcode: admin::GET_LOG_PAGE,
            cdw10: [DISCOVERY_LOG | dwords << 16, 0, half(at), 0, 0, 0],
            ..Command::default()
        };
        // A refusal is found out by the deadline.
        self.transport.submit(CID, &command, AdminData::In);
    }

    fn read_header(&mut self, step: Step, now: Tick) {
        self.step = step;
        self.read(0, ENTRY_BYTES, now);
    }

    fn read_entries(&mut self, now: Tick) {
        self.step = Step::Entries;
        let count = (self.count - self.entries.len()).min(ENTRIES_PER_PAGE);
        self.read(ENTRY_BYTES * (1 + self.entries.len()), ENTRY_BYTES * count, now);
    }

    fn poll_log(&mut self, now: Tick) -> Result<(), String> {
        let Some((completion, page)) = self.transport.pop(now) else {
            self.transport.check()?;
            return if now > self.deadline {
                Err("it does not answer Get Log Page".to_owned())
            } else {
                Ok(())
            };
        };
        if !completion.status.is_ok() {
            return Err(format!("Get Log Page ended with status {:#x}", completion.status.bits()));
        }
        let Some(page) = page else { return Err("Get Log Page brought nothing".to_owned()) };
        let number_at =
            |at: usize| page[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        match self.step {
            Step::Header => {
                self.generation = number_at(0);
                self.count = usize::try_from(number_at(8)).unwrap_or(usize::MAX).min(ENTRIES_MAX);
                self.entries.clear();
            }
            Step::Entries => {
                let (chunks, _) = page.as_chunks::<ENTRY_BYTES>();
                let left = self.count - self.entries.len();
                self.entries.extend(chunks.iter().take(left).map(Entry::decode));
            }
            // Base §5.16.1.23: who reads it in parts reads GENCTR again at the end.
            Step::Again if number_at(0) == self.generation => {
                self.end(Ok(()), now);
                return Ok(());
            }
            _ if self.tries == TRIES_MAX => return Err("its log changes again and again".to_owned()),
            _ => {
                self.tries += 1;
                self.read_header(Step::Header, now);
                return Ok(());
            }
        }
        if self.entries.len() < self.count {
            self.read_entries(now);
        } else {
            self.read_header(Step::Again, now);
        }
        Ok(())
    }
}
