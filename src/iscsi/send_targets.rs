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
    out.pair("TargetName", &target.name)?;
    let mut digits = [0; 5];
    let tag = decimal(target.portal_group, &mut digits);
    for portal in &target.portals {
        out.parts(&[b"TargetAddress=", portal.as_bytes(), b",", tag, b"\0"])?;
    }
    Some(())
}

/// Appends the same record to `out`.
pub fn render(target: &TargetView, out: &mut Vec<u8>) {
    text::push(out, "TargetName", &target.name);
    for portal in &target.portals {
        text::push(out, "TargetAddress", &format!("{portal},{}", target.portal_group));
    }
}

/// A number in decimal digits, at the end of `digits`.
fn decimal(mut number: u16, digits: &mut [u8; 5]) -> &[u8] {
    let mut from = digits.len();
    loop {
        from -= 1;
        let [_, digit] = (number % 10).to_be_bytes();
        digits[from] = b'0' + digit;
        number /= 10;
        if number == 0 {
            return &digits[from..];
        }
    }
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
            port_group: 1,
            portal_group: 65535,
            portals: vec!["10.0.0.1:3260".into(), "[2001:db8::1]:3261".into()],
            mappings: vec![],
        };
        let expected: &[u8] = b"TargetName=iqn.2026-11.example:disk\0TargetAddress=10.0.0.1:3260,65535\0\
            TargetAddress=[2001:db8::1]:3261,65535\0";
        let mut text = vec![];
        render(&target, &mut text);
        assert_eq!(text, expected);
        let mut out = [0xaa; 200];
        let mut space = Space::new(&mut out);
        assert_eq!(write(&target, &mut space), Some(()));
        let bytes = space.used_bytes();
        assert_eq!((&out[..bytes], out[bytes]), (expected, 0xaa));
        assert_eq!(write(&target, &mut Space::new(&mut out[..expected.len() - 1])), None);
        assert_eq!(decimal(0, &mut [0; 5]), b"0");
        assert_eq!(decimal(40960, &mut [0; 5]), b"40960");
    }
}
