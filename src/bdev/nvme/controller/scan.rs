//! The look at a controller's namespaces: which there are, what they are, and whether they are still the same.

use std::sync::Arc;

use super::super::spec::identify::{self, Namespace, Unusable, cns};
use super::super::spec::{Completion, Status};
use super::super::transport::{ADMIN_DATA_BYTES, AdminData};
use super::admin::Purpose;
use super::shared::{Disk, Event, Identity, Severity};
use super::{Controller, State, command};

/// Namespaces that are served, at most: what one answer lists.
const NAMESPACES_MAX: u32 = 1024;
/// No namespace has a number from here on (Base §3.2.1).
const NSID_END: u32 = 0xFFFF_FFFE;
/// Identify knows the list of active namespaces from this version on, and names of namespaces from this one.
const LIST_VERSION: u32 = 0x0001_0100;
const NAMES_VERSION: u32 = 0x0001_0300;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Which there are.
    List,
    /// What the next one is.
    Namespace,
    /// What it is called.
    Names(Namespace),
}

/// A look at the namespaces.
#[derive(Debug)]
pub(super) struct Scan {
    stage: Stage,
    is_sent: bool,
    /// Those still to be looked at, the last first.
    left: Vec<u32>,
    found: Vec<Found>,
    /// They changed meanwhile.
    is_again: bool,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    nsid: u32,
    what: Finding,
}

#[derive(Clone, Copy, Debug)]
enum Finding {
    Usable(Namespace, Identity),
    Unusable(Unusable),
    /// The controller did not say.
    Unknown(Status),
}

/// What has to be told of a look.
#[derive(Debug, Default)]
struct Changes {
    disks: Vec<Arc<Disk>>,
    removed: Vec<(Arc<Disk>, &'static str)>,
    resized: Vec<Arc<Disk>>,
    attached: Vec<Arc<Disk>>,
}

impl Controller {
    /// Looks at the namespaces, once more where that is being done.
    pub(super) fn begin_scan(&mut self) {
        match &mut self.scan {
            Some(scan) => scan.is_again = true,
            None => {
                let (left, found) = (Vec::new(), Vec::new());
                self.scan = Some(Scan { stage: Stage::List, is_sent: false, left, found, is_again: false });
            }
        }
    }

    /// Sends the scan's next command. A scan that has come to its end is gone afterwards.
    pub(super) fn drive_scan(&mut self) {
        let Some(scan) = self.scan.as_mut().filter(|scan| !scan.is_sent) else { return };
        if scan.stage == Stage::List && self.limits.version < LIST_VERSION {
            scan.left = all_numbers(&self.identity);
            scan.left.reverse();
            scan.stage = Stage::Namespace;
        }
        let command = match (scan.stage, scan.left.last()) {
            (Stage::List, _) => command::identify(cns::ACTIVE_NAMESPACES, 0),
            (Stage::Namespace, Some(&nsid)) => command::identify(cns::NAMESPACE, nsid),
            (Stage::Names(_), Some(&nsid)) => command::identify(cns::NAMESPACE_IDS, nsid),
            (_, None) => return self.end_scan(),
        };
        let is_sent = self.send(Purpose::Scan, &command, AdminData::In);
        if let Some(scan) = &mut self.scan {
            scan.is_sent = is_sent;
        }
    }

    /// The scan's command has completed.
    pub(super) fn scanned(&mut self, completion: &Completion, page: &[u8; ADMIN_DATA_BYTES]) {
        let names_known = self.limits.version >= NAMES_VERSION;
        let Some(scan) = &mut self.scan else { return };
        scan.is_sent = false;
        let status = completion.status;
        match scan.stage {
            Stage::List => {
                scan.stage = Stage::Namespace;
                scan.left = if status.is_ok() {
                    identify::active_namespaces(page)
                } else {
                    all_numbers(&self.identity)
                };
                let is_sound =
                    scan.left.is_sorted_by(|a, b| a < b) && scan.left.iter().all(|id| *id < NSID_END);
                scan.left.reverse();
                if !is_sound {
                    self.scan = None;
                    self.trouble("its list of namespaces makes no sense");
                }
            }
            Stage::Namespace => {
                let decoded = if status.is_ok() { Namespace::decode(page) } else { Err(Unusable::Inactive) };
                match decoded {
                    Ok(namespace) if names_known => scan.stage = Stage::Names(namespace),
                    Ok(namespace) => scan.find(Finding::Usable(namespace, identity(&namespace, None))),
                    // Invalid namespace or format: it was taken away between the list and this.
                    Err(_) if !status.is_ok() && (status.kind(), status.code()) != (0, 0x0B) => {
                        scan.find(Finding::Unknown(status));
                    }
                    Err(unusable) => scan.find(Finding::Unusable(unusable)),
                }
            }
            Stage::Names(namespace) => {
                scan.stage = Stage::Namespace;
                // Invalid field: it has no names after all.
                let is_without = (status.kind(), status.code()) == (0, 0x02);
                scan.find(if status.is_ok() || is_without {
                    let uuid = if is_without { None } else { identify::uuid(page) };
                    Finding::Usable(namespace, identity(&namespace, uuid))
                } else {
                    Finding::Unknown(status)
                });
            }
        }
    }

    /// All have been looked at: tells what is new.
    fn end_scan(&mut self) {
        let Some(scan) = self.scan.take() else { return };
        let was_reset = self.has_run && !matches!(self.state, State::Running);
        let old = self.shared.disks();
        let unknown = |disk: &Arc<Disk>| {
            scan.found
                .iter()
                .any(|found| found.nsid == disk.nsid && matches!(found.what, Finding::Unknown(_)))
        };
        if was_reset && let Some(disk) = old.iter().find(|disk| unknown(disk)) {
            // Nothing may be written to a medium that is perhaps another.
            let why = format!("it does not say what namespace {} is", disk.nsid);
            return self.trouble(why);
        }
        let changes = self.compare(&scan.found, &old, was_reset);
        for (disk, why) in changes.removed {
            disk.remove();
            self.say(Severity::Warn, format_args!("namespace {} is removed: {why}", disk.nsid));
            self.tell(Event::Removed(disk));
        }
        self.shared.set_disks(changes.disks);
        for disk in changes.resized {
            let blocks = disk.namespace().blocks;
            self.say(Severity::Info, format_args!("namespace {} has {blocks} blocks now", disk.nsid));
            self.tell(Event::Resized(disk));
        }
        for disk in changes.attached {
            let Namespace { blocks, block_bytes, .. } = disk.namespace();
            let (nsid, severity) = (disk.nsid, Severity::Info);
            self.say(severity, format_args!("namespace {nsid}: {blocks} blocks of {block_bytes} bytes"));
            self.tell(Event::Attached(disk));
        }
        if scan.is_again {
            self.begin_scan();
        }
    }

    /// What was found against what was there before.
    fn compare(&mut self, found: &[Found], old: &[Arc<Disk>], was_reset: bool) -> Changes {
        let has_lost_power = was_reset && std::mem::take(&mut self.has_lost_power);
        let mut changes = Changes::default();
        for disk in old.iter().filter(|disk| !found.iter().any(|found| found.nsid == disk.nsid)) {
            changes.removed.push((Arc::clone(disk), "the controller does not have it any more"));
        }
        for &Found { nsid, what } in found {
            let before = old.iter().find(|disk| disk.nsid == nsid);
            let (namespace, identity) = match what {
                Finding::Usable(namespace, identity) => (namespace, identity),
                Finding::Unusable(unusable) => {
                    if let Some(disk) = before {
                        changes.removed.push((Arc::clone(disk), "it cannot be used any more"));
                    }
                    self.complain(nsid, unusable_words(unusable));
                    continue;
                }
                Finding::Unknown(status) => {
                    changes.disks.extend(before.cloned());
                    let words =
                        format!("asked what it is, the controller says status {:#06x}", status.bits());
                    self.complain(nsid, Some(words));
                    continue;
                }
            };
            self.complaints.retain(|complaint| *complaint != nsid);
            let difference = before.and_then(|disk| {
                let loss = has_lost_power.then_some(
                    "its controller lost power, and may have lost writes that were answered and not flushed",
                );
                difference(disk, &namespace, &identity, was_reset).or(loss)
            });
            if let Some(disk) = before {
                if difference.is_none() {
                    let is_resized = disk.namespace().blocks != namespace.blocks;
                    disk.set(namespace);
                    changes.disks.push(Arc::clone(disk));
                    changes.resized.extend(is_resized.then(|| Arc::clone(disk)));
                    continue;
                }
                changes.removed.extend(difference.map(|why| (Arc::clone(disk), why)));
            }
            let disk = Disk::new(nsid, identity, identity.name(&self.identity, nsid), namespace);
            let disk = Arc::new(disk);
            changes.disks.push(Arc::clone(&disk));
            changes.attached.push(disk);
        }
        changes
    }

    /// Says once that a namespace is not served.
    fn complain(&mut self, nsid: u32, words: Option<String>) {
        let Some(words) = words else { return };
        if !self.complaints.contains(&nsid) {
            self.complaints.push(nsid);
            self.say(Severity::Warn, format_args!("namespace {nsid} is not looked at: {words}"));
        }
    }
}

impl Scan {
    /// The namespace that is being looked at is this.
    fn find(&mut self, what: Finding) {
        if let Some(nsid) = self.left.pop()
            && !matches!(what, Finding::Unusable(Unusable::Inactive))
        {
            self.found.push(Found { nsid, what });
        }
    }
}

fn identity(namespace: &Namespace, uuid: Option<[u8; 16]>) -> Identity {
    Identity { uuid: uuid.unwrap_or_default(), nguid: namespace.nguid, eui64: namespace.eui64 }
}

/// Why the namespace is not the one that it was.
fn difference(disk: &Disk, now: &Namespace, identity: &Identity, was_reset: bool) -> Option<&'static str> {
    let before = disk.namespace();
    let shape = |namespace: &Namespace| {
        (namespace.block_bytes, namespace.metadata_bytes, namespace.is_extended, namespace.protection)
    };
    if disk.identity != *identity {
        Some("its number is another medium's now")
    } else if shape(&before) != shape(now) {
        Some("it has another format now")
    } else if was_reset && now.blocks < before.blocks {
        Some("it came back smaller than it was")
    } else {
        None
    }
}

/// All numbers that a namespace may have.
fn all_numbers(controller: &identify::Controller) -> Vec<u32> {
    (1..=controller.namespaces.min(NAMESPACES_MAX)).collect()
}

fn unusable_words(unusable: Unusable) -> Option<String> {
    match unusable {
        Unusable::Inactive => None,
        Unusable::BlockSize(shift) => Some(format!(
            "its blocks are of 2^{shift} bytes, and 512 to 4096 can be served: format it (nvme format)"
        )),
        Unusable::Metadata(bytes) => Some(format!(
            "its blocks have {bytes} bytes of metadata: format it without, or with 8 bytes of protection information"
        )),
    }
}
