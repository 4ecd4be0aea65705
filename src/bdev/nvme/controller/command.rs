//! Admin commands as this driver makes them (Base §5).

use super::super::spec::identify::{Namespace, Protection, cns};
use super::super::spec::{Command, admin};
use crate::bdev::Erasure;

/// Features (Base figure 317).
mod feature {
    pub(super) const NUMBER_OF_QUEUES: u32 = 0x07;
    pub(super) const ASYNC_EVENTS: u32 = 0x0B;
    pub(super) const KEEP_ALIVE: u32 = 0x0F;
}

/// All namespaces.
const NSID_ALL: u32 = 0xFFFF_FFFF;

/// Identify: what the controller, or a namespace, says of itself.
pub(super) fn identify(what: u32, nsid: u32) -> Command {
    debug_assert!(what != cns::CONTROLLER || nsid == 0);
    Command { opcode: admin::IDENTIFY, nsid, cdw10: [what, 0, 0, 0, 0, 0], ..Command::default() }
}

fn set_feature(feature: u32, value: u32) -> Command {
    Command { opcode: admin::SET_FEATURES, cdw10: [feature, value, 0, 0, 0, 0], ..Command::default() }
}

/// So many pairs of IO queues are wanted; at least 1.
pub(super) fn number_of_queues(pairs: u16) -> Command {
    let zero_based = u32::from(pairs.saturating_sub(1));
    set_feature(feature::NUMBER_OF_QUEUES, zero_based | zero_based << 16)
}

/// Pairs of IO queues that the answer to [`number_of_queues`] grants: the fewer of both kinds (Base §5.27.1.5).
pub(super) fn granted(result: u64) -> u32 {
    let kind = |shift: u32| u32::try_from(result >> shift & 0xFFFF).unwrap_or(0) + 1;
    kind(0).min(kind(16))
}

/// Which events the controller is to tell of.
pub(super) fn async_events(mask: u32) -> Command {
    set_feature(feature::ASYNC_EVENTS, mask)
}

/// The controller is to believe us gone when it has not heard of us for so long.
pub(super) fn keep_alive_time_out(ms: u32) -> Command {
    set_feature(feature::KEEP_ALIVE, ms)
}

/// The next event, whenever it comes.
pub(super) fn async_event_request() -> Command {
    Command { opcode: admin::ASYNC_EVENT, ..Command::default() }
}

/// We are here.
pub(super) fn keep_alive() -> Command {
    Command { opcode: admin::KEEP_ALIVE, ..Command::default() }
}

/// Abort a command of a submission queue.
pub(super) fn abort(queue: u16, cid: u16) -> Command {
    let cdw10 = u32::from(queue) | u32::from(cid) << 16;
    Command { opcode: admin::ABORT, cdw10: [cdw10, 0, 0, 0, 0, 0], ..Command::default() }
}

/// The first bytes of a log. The event that told of it is kept where `keeps_event` says so (Base §5.16: RAE).
pub(super) fn log_page(page: u8, bytes: u16, keeps_event: bool) -> Command {
    log_part(page, 0, bytes, keeps_event)
}

/// As [`log_page`], from `offset` on, for controllers that know offsets; a multiple of 4.
pub(super) fn log_part(page: u8, offset: u32, bytes: u16, keeps_event: bool) -> Command {
    let dwords = u32::from(bytes / 4).saturating_sub(1);
    let cdw10 = u32::from(page) | u32::from(keeps_event) << 15 | dwords << 16;
    Command {
        opcode: admin::GET_LOG_PAGE,
        nsid: NSID_ALL,
        cdw10: [cdw10, 0, offset, 0, 0, 0],
        ..Command::default()
    }
}

/// Format NVM (Base §5.14, NVM §4.1.2): a namespace is erased, and has the format that it had.
pub(super) fn format(nsid: u32, namespace: &Namespace, how: Erasure) -> Command {
    let low = u32::from(namespace.format & 0xF);
    let high = u32::from(namespace.format >> 5 & 3);
    let protection = match namespace.protection {
        Protection::None => 0,
        Protection::Type(kind) => u32::from(kind),
    };
    // User data erase, cryptographic erase.
    let secure = match how {
        Erasure::Blocks => 1,
        Erasure::Key => 2,
    };
    let cdw10 = low
        | u32::from(namespace.is_extended) << 4
        | protection << 5
        | u32::from(namespace.is_protection_first) << 8
        | secure << 9
        | high << 12;
    Command { opcode: admin::FORMAT_NVM, nsid, cdw10: [cdw10, 0, 0, 0, 0, 0], ..Command::default() }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::identify::IDENTIFY_BYTES;
    use super::*;

    #[test]
    fn a_format_keeps_the_format() {
        let namespace = |format: u8, protection: u8| {
            let mut page = [0; IDENTIFY_BYTES];
            let at = 128 + 4 * usize::from(format & 0xF | (format >> 5 & 3) << 4);
            (page[0], page[26], page[29]) = (8, format, protection);
            (page[at], page[at + 2]) = (if protection == 0 { 0 } else { 8 }, 12);
            Namespace::decode(&page).unwrap()
        };
        let words = |namespace, how| format(3, &namespace, how);
        let plain = words(namespace(0, 0), Erasure::Blocks);
        assert_eq!((plain.opcode, plain.nsid, plain.cdw10), (0x80, 3, [0x0200, 0, 0, 0, 0, 0]));
        assert_eq!(words(namespace(0, 0), Erasure::Key).cdw10[0], 0x0400);
        // Format 37 with metadata in line, type 3 at the metadata's beginning.
        assert_eq!(words(namespace(0x55, 0x0B), Erasure::Blocks).cdw10[0], 0x2375);
        assert_eq!(words(namespace(0x01, 0x01), Erasure::Key).cdw10[0], 0x0421);
    }

    #[test]
    fn commands_are_laid_out_as_the_specification_says() {
        assert_eq!(number_of_queues(4).cdw10, [7, 0x0003_0003, 0, 0, 0, 0]);
        assert_eq!(abort(3, 0x1234).cdw10[0], 0x1234_0003);
        assert_eq!(log_page(2, 512, true).cdw10[0], 0x007F_8002);
        assert_eq!(log_page(4, 4096, false).cdw10[0], 0x03FF_0004);
        assert_eq!(log_part(1, 4096, 128, true).cdw10, [0x001F_8001, 0, 4096, 0, 0, 0]);
        assert_eq!(identify(cns::NAMESPACE, 5).nsid, 5);
    }

    #[test]
    fn the_fewer_kind_of_queue_counts() {
        assert_eq!(granted(0x0001_0003), 2);
        assert_eq!(granted(0x0007_0000), 1);
        assert_eq!(granted(0xFFFF_FFFF_FFFF_FFFF), 65_536);
    }
}
