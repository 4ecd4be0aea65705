//! The answer to SendTargets (RFC 7143 appendix C), for discovery sessions and for full feature phase.

use super::text;
use crate::scsi::view::TargetView;

/// Where answers are written.
pub(super) trait Sink {
    /// Writes a pair, or none of it where it does not fit.
    fn pair(&mut self, key: &str, value: &str) -> Option<()>;
}

impl Sink for Vec<u8> {
    fn pair(&mut self, key: &str, value: &str) -> Option<()> {
        text::push(self, key, value);
        Some(())
    }
}

impl Sink for Space<'_> {
    fn pair(&mut self, key: &str, value: &str) -> Option<()> {
        self.parts(&[key.as_bytes(), b"=", value.as_bytes(), b"\0"])
    }
}

/// A bounded place for text, written without allocation.
#[derive(Debug)]
pub struct Space<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl<'a> Space<'a> {
    /// Nothing is written yet.
    pub const fn new(out: &'a mut [u8]) -> Space<'a> {
        Space { out, used: 0 }
    }

    /// How much is.
    pub const fn used_bytes(&self) -> usize {
        self.used
    }

    fn parts(&mut self, parts: &[&[u8]]) -> Option<()> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut rest = self.out.get_mut(self.used..)?.get_mut(..bytes)?;
        for part in parts {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        }
        self.used += bytes;
        Some(())
    }
}

/// Writes a target's record: `TargetName=…` and a `TargetAddress=address:port,tag` for each portal.
pub fn write(target: &TargetView, out: &mut Space<'_>) -> Option<()> {
    record(target, out)
}

/// Appends the same record to `out`.
pub fn render(target: &TargetView, out: &mut Vec<u8>) {
    // There is room for all of it.
    let _ = record(target, out);
}

fn record(target: &TargetView, out: &mut impl Sink) -> Option<()> {
    out.pair("TargetName", &target.name)?;
    target.portals.iter().try_for_each(|portal| out.pair("TargetAddress", portal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_both_ways_agree_with_the_rfc() {
        let target = TargetView {
            name: "iqn.2026-11.example:disk".into(),
            alias: String::new(),
            relative_port: 1,
            ports: vec![1],
            port_groups: vec![1],
            portal_groups: vec![1],
            histogram: None,
            port_group: 1,
            portal_group: 65535,
            lun_map: None,
            portals: vec!["10.0.0.1:3260,65535".into(), "[2001:db8::1]:3261,2".into()],
            mappings: vec![],
        };
        let expected: &[u8] = b"TargetName=iqn.2026-11.example:disk\0TargetAddress=10.0.0.1:3260,65535\0\
            TargetAddress=[2001:db8::1]:3261,2\0";
        let mut text = vec![];
        render(&target, &mut text);
        assert_eq!(text, expected);
        let mut out = [0xaa; 200];
        let mut space = Space::new(&mut out);
        assert_eq!(write(&target, &mut space), Some(()));
        let bytes = space.used_bytes();
        assert_eq!((&out[..bytes], out[bytes]), (expected, 0xaa));
        assert_eq!(write(&target, &mut Space::new(&mut out[..expected.len() - 1])), None);
    }
}
