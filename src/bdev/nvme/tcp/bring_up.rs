//! From a connected socket to an enabled controller, in named steps.

use super::fabrics::{self, property};
use super::link::{Link, STEP_NS};
use super::socket::Socket;
use super::transport::{Known, OWN_CID, Options};
use crate::bdev::nvme::spec::{Command, identify};
use crate::bdev::nvme::spec::{admin, identify::cns};
use crate::bdev::nvme::transport::{AdminData, Limits};
use crate::time::{MS_NS, Tick};

/// CC.EN with entries of 64 and 16 bytes, pages of 4096 bytes, the NVM command set (Base §3.1.3.5).
pub(super) const CC_ENABLED: u32 = 1 | 6 << 16 | 4 << 20;
const CSTS_READY: u64 = 1;
const CSTS_FATAL: u64 = 1 << 1;
/// CAP.TO counts in these.
const TIMEOUT_UNIT_NS: u64 = 500 * MS_NS;
/// Bytes of an entry, which a capsule's size includes.
const ENTRY_BYTES: usize = 64;

/// What is being waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Open,
    Connect,
    Capabilities,
    Version,
    /// Whether it is enabled already, as a controller may be that outlives its hosts.
    Status,
    Disable,
    Disabled,
    Enable,
    Ready,
    Identify,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Open => "connecting",
            Step::Connect => "Connect",
            Step::Capabilities => "reading CAP",
            Step::Version => "reading VS",
            Step::Status => "reading CSTS",
            Step::Disable | Step::Disabled => "disabling",
            Step::Enable | Step::Ready => "enabling",
            Step::Identify => "Identify",
        }
    }
}

/// An admin queue's connection on its way.
#[derive(Debug)]
pub(super) struct BringUp {
    link: Link,
    step: Step,
    deadline: Tick,
    controller: u16,
    capabilities: u64,
    version: u32,
}

impl BringUp {
    pub(super) fn new(link: Link, now: Tick) -> BringUp {
        // Connecting and greeting have deadlines of their own.
        let deadline = now.after_ns(3 * STEP_NS);
        BringUp { link, step: Step::Open, deadline, controller: 0, capabilities: 0, version: 0 }
    }

    pub(super) fn socket(&self) -> &Socket {
        self.link.socket()
    }

    pub(super) fn into_link(self) -> Link {
        self.link
    }

    fn enter(&mut self, step: Step, command: &Command, data: AdminData<'_>, within_ns: u64, now: Tick) {
        self.step = step;
        self.deadline = now.after_ns(within_ns);
        self.link.submit(OWN_CID, command, data);
    }

    fn get(&mut self, step: Step, offset: u32, is_long: bool, now: Tick) {
        self.enter(step, &fabrics::property_get(offset, is_long), AdminData::None, STEP_NS, now);
    }

    /// Asks for CSTS until it says what is waited for, without moving the deadline.
    fn ask_status(&mut self) {
        self.link.submit(OWN_CID, &fabrics::property_get(property::CSTS, false), AdminData::None);
    }

    /// CAP.TO (Base §3.1.3.1), with a little on top for the network.
    fn patience_ns(&self) -> u64 {
        (self.capabilities >> 24 & 0xFF) * TIMEOUT_UNIT_NS + STEP_NS
    }

    /// How far it has come.
    pub(super) fn poll(
        &mut self,
        options: &Options,
        entries: u16,
        now: Tick,
    ) -> Result<Option<Known>, String> {
        if now > self.deadline {
            return Err(format!("{} took too long", self.step.name()));
        }
        if self.step == Step::Open {
            if self.link.poll_open(now)? {
                let data = fabrics::connect_data(
                    options.host_id,
                    fabrics::CONTROLLER_ANY,
                    &options.subnqn,
                    &options.hostnqn,
                );
                let connect = fabrics::connect(0, entries, options.keep_alive_ms);
                self.enter(Step::Connect, &connect, AdminData::Out(&data), STEP_NS, now);
            }
            return Ok(None);
        }
        let Some((completion, page)) = self.link.pop(now) else {
            self.link.check()?;
            return Ok(None);
        };
        if self.step == Step::Connect
            && let Some(why) = fabrics::connect_failed(&completion)
        {
            return Err(why);
        }
        if !completion.status.is_ok() {
            return Err(format!("{} ended with status {:#x}", self.step.name(), completion.status.bits()));
        }
        let result = completion.result;
        match self.step {
            Step::Open => {}
            Step::Connect => {
                // Base figure 390: a controller id, and above it what authentication is required.
                if result >> 16 & 0x3 != 0 {
                    return Err(
                        "it wants authentication within the connection, which is not supported".to_owned()
                    );
                }
                self.controller = u16::try_from(result & 0xFFFF).unwrap_or_default();
                self.get(Step::Capabilities, property::CAP, true, now);
            }
            Step::Capabilities => {
                self.capabilities = result;
                self.get(Step::Version, property::VS, false, now);
            }
            Step::Version => {
                self.version = u32::try_from(result & 0xFFFF_FFFF).unwrap_or_default();
                self.get(Step::Status, property::CSTS, false, now);
            }
            Step::Status if result & CSTS_READY != 0 => {
                let patience_ns = self.patience_ns();
                self.enter(
                    Step::Disable,
                    &fabrics::property_set(property::CC, 0),
                    AdminData::None,
                    patience_ns,
                    now,
                );
            }
            Step::Disable => {
                self.step = Step::Disabled;
                self.ask_status();
            }
            Step::Disabled if result & CSTS_READY != 0 => self.ask_status(),
            Step::Status | Step::Disabled => {
                let patience_ns = self.patience_ns();
                let enable = fabrics::property_set(property::CC, CC_ENABLED);
                self.enter(Step::Enable, &enable, AdminData::None, patience_ns, now);
            }
            Step::Enable => {
                self.step = Step::Ready;
                self.ask_status();
            }
            Step::Ready if result & CSTS_FATAL != 0 => {
                return Err("the controller reports a fatal error (CSTS.CFS)".to_owned());
            }
            Step::Ready if result & CSTS_READY == 0 => self.ask_status(),
            Step::Ready => {
                let identify = Command {
                    opcode: admin::IDENTIFY,
                    cdw10: [cns::CONTROLLER, 0, 0, 0, 0, 0],
                    ..Command::default()
                };
                self.enter(Step::Identify, &identify, AdminData::In, STEP_NS, now);
            }
            Step::Identify => {
                let controller = page.map(identify::Controller::decode).unwrap_or_default();
                return Ok(Some(self.known(&controller)));
            }
        }
        Ok(None)
    }

    fn known(&self, controller: &identify::Controller) -> Known {
        // IOCCSZ counts the entry in. TCP §3.1: ICDOFF is 0; where it is not, nothing goes into capsules.
        let capsule_bytes =
            usize::try_from(controller.capsule_units).unwrap_or(usize::MAX).saturating_mul(16);
        let capsule_bytes =
            if controller.in_capsule_offset == 0 { capsule_bytes.saturating_sub(ENTRY_BYTES) } else { 0 };
        let cap = self.capabilities;
        Known {
            limits: Limits {
                entries_max: u32::try_from(cap & 0xFFFF).unwrap_or_default() + 1,
                version: self.version,
                page_bytes_min: 1 << (12 + (cap >> 48 & 0xF)),
                needs_keep_alive: true,
            },
            controller: self.controller,
            capsule_bytes,
        }
    }
}
