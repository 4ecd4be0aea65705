//! Log pages (Base §5.16.1): errors, health.

use super::super::spec::{Command, identify};
use super::super::transport::ADMIN_DATA_BYTES;
use super::command;

/// Log pages by their numbers.
pub(super) mod page {
    pub(crate) const ERRORS: u8 = 0x01;
    pub(crate) const HEALTH: u8 = 0x02;
    pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;
}

const ERROR_BYTES: u16 = 64;
/// Entries of the error log that one command reads.
const ERRORS_MAX: u16 = 64;

/// An entry of the error log (Base §5.16.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ErrorEntry {
    /// Counts errors over the controller's life.
    pub(crate) count: u64,
    /// Submission queue of the command; `u16::MAX`: of none.
    pub(crate) queue: u16,
    /// The command.
    pub(crate) cid: u16,
    /// Its status, phase included.
    pub(crate) status: u16,
    /// The first block that failed.
    pub(crate) lba: u64,
    /// The namespace.
    pub(crate) nsid: u32,
}

/// What a controller says of its health (Base §5.16.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Health {
    /// Critical warnings, as bits.
    pub(crate) warnings: u8,
    /// Temperature, in kelvins.
    pub(crate) temperature_kelvin: u16,
    /// Spare capacity, in percent.
    pub(crate) spare_percent: u8,
    /// Below this the spare capacity is a warning.
    pub(crate) spare_threshold_percent: u8,
    /// Wear, in percent of the expected life; above 100 where it lives longer.
    pub(crate) used_percent: u8,
    /// Units of 512,000 bytes that were read.
    pub(crate) units_read: u128,
    /// Units of 512,000 bytes that were written.
    pub(crate) units_written: u128,
    /// Read commands.
    pub(crate) reads: u128,
    /// Write commands.
    pub(crate) writes: u128,
    /// Minutes at work.
    pub(crate) busy_minutes: u128,
    /// Power cycles.
    pub(crate) power_cycles: u128,
    /// Hours with power.
    pub(crate) power_on_hours: u128,
    /// Power cuts without notice.
    pub(crate) unsafe_shutdowns: u128,
    /// Media errors.
    pub(crate) media_errors: u128,
    /// Entries of the error log ever made.
    pub(crate) error_entries: u128,
}

type Page = [u8; ADMIN_DATA_BYTES];

fn bytes<const N: usize>(page: &Page, at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&page[at..at + N]);
    bytes
}

impl Health {
    /// Of log page 02h.
    pub(super) fn decode(page: &Page) -> Health {
        let wide = |at| u128::from_le_bytes(bytes(page, at));
        Health {
            warnings: page[0],
            temperature_kelvin: u16::from_le_bytes(bytes(page, 1)),
            spare_percent: page[3],
            spare_threshold_percent: page[4],
            used_percent: page[5],
            units_read: wide(32),
            units_written: wide(48),
            reads: wide(64),
            writes: wide(80),
            busy_minutes: wide(96),
            power_cycles: wide(112),
            power_on_hours: wide(128),
            unsafe_shutdowns: wide(144),
            media_errors: wide(160),
            error_entries: wide(176),
        }
    }

    /// Critical warnings in words; none where there is none.
    pub(super) fn warning(&self) -> Option<String> {
        const WARNINGS: [&str; 6] = [
            "spare capacity is low",
            "too hot or too cold",
            "reliability is degraded",
            "the medium is read only",
            "the backup of volatile memory failed",
            "persistent memory is read only",
        ];
        let named = WARNINGS.iter().enumerate().filter(|(bit, _)| self.warnings & 1 << bit != 0);
        let words: Vec<&str> = named.map(|(_, words)| *words).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// The error log, as it is read, one command after the other: newest first, so that what is added meanwhile moves entries to
/// where they are still to be read.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    pub(super) entries: Vec<ErrorEntry>,
    read_count: u16,
}

impl ErrorLog {
    /// Reads what comes next.
    pub(super) fn command(&self, controller: &identify::Controller) -> Command {
        let offset = u32::from(self.read_count) * u32::from(ERROR_BYTES);
        command::log_part(page::ERRORS, offset, self.next_count(controller) * ERROR_BYTES, true)
    }

    /// What came of it; whether that was the last.
    pub(super) fn take(&mut self, controller: &identify::Controller, data: &Page) -> bool {
        let count = self.next_count(controller);
        let entries = errors(data, count);
        self.read_count += count;
        let is_full = entries.len() == usize::from(count);
        self.entries.extend(entries);
        // What has never been used is at the end.
        !is_full || !controller.has_log_offsets || self.read_count >= controller.error_entries
    }

    fn next_count(&self, controller: &identify::Controller) -> u16 {
        controller.error_entries.saturating_sub(self.read_count).clamp(1, ERRORS_MAX)
    }
}

/// The entries of log page 01h that are in use, of its first `entries`.
pub(super) fn errors(page: &Page, entries: u16) -> Vec<ErrorEntry> {
    let at = (0..usize::from(entries.min(ERRORS_MAX))).map(|index| index * usize::from(ERROR_BYTES));
    let decoded = at.map(|at| ErrorEntry {
        count: u64::from_le_bytes(bytes(page, at)),
        queue: u16::from_le_bytes(bytes(page, at + 8)),
        cid: u16::from_le_bytes(bytes(page, at + 10)),
        status: u16::from_le_bytes(bytes(page, at + 12)),
        lba: u64::from_le_bytes(bytes(page, at + 16)),
        nsid: u32::from_le_bytes(bytes(page, at + 24)),
    });
    // A count of 0 marks an entry that is not in use.
    decoded.filter(|entry| entry.count != 0).collect()
}

/// The block that the newest entry about a command names.
pub(super) fn lba_of(entries: &[ErrorEntry], queue: u16, cid: u16) -> Option<u64> {
    let about = entries.iter().filter(|entry| (entry.queue, entry.cid) == (queue, cid));
    about.max_by_key(|entry| entry.count).map(|entry| entry.lba)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_about_a_command_counts() {
        let mut page = [0; ADMIN_DATA_BYTES];
        page[..26].copy_from_slice(&[
            2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 7, 0, 3, 5, 0, 0, 0x55, 0, 0, 0, 0, 0, 0, 0, 1, 0,
        ]);
        page[64..90].copy_from_slice(&[
            1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 7, 0, 3, 5, 0, 0, 0x66, 0, 0, 0, 0, 0, 0, 0, 1, 0,
        ]);
        let entries = errors(&page, 64);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], ErrorEntry { count: 2, queue: 1, cid: 7, status: 0x0503, lba: 0x55, nsid: 1 });
        assert_eq!(lba_of(&entries, 1, 7), Some(0x55));
        assert_eq!(lba_of(&entries, 2, 7), None);
        assert_eq!(errors(&page, 1).len(), 1);
    }

    #[test]
    fn health_is_read_as_the_specification_says() {
        let mut page = [0; ADMIN_DATA_BYTES];
        page[..6].copy_from_slice(&[0b1001, 0x2C, 0x01, 90, 10, 3]);
        page[160] = 4;
        let health = Health::decode(&page);
        assert_eq!((health.temperature_kelvin, health.spare_percent, health.used_percent), (300, 90, 3));
        assert_eq!(health.media_errors, 4);
        assert_eq!(health.warning().as_deref(), Some("spare capacity is low, the medium is read only"));
        assert_eq!(Health::default().warning(), None);
    }
}
