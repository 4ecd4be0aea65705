//! A cursor that writes into a slice and counts on beyond its end, since lengths in parameter data are those of the whole,
//! however little of it is wanted (SPC-5).

/// Writes bytes one after the other.
#[derive(Debug)]
pub(in crate::scsi) struct Writer<'a> {
    out: &'a mut [u8],
    /// Bytes written or cut off so far.
    length: usize,
}

impl<'a> Writer<'a> {
    pub(in crate::scsi) fn new(out: &'a mut [u8]) -> Self {
        Writer { out, length: 0 }
    }

    /// Bytes so far, with those that were cut off.
    pub(in crate::scsi) fn length(&self) -> usize {
        self.length
    }

    pub(in crate::scsi) fn put(&mut self, bytes: &[u8]) {
        self.write_at(self.length, bytes);
        self.length += bytes.len();
    }

    pub(in crate::scsi) fn zeros(&mut self, count: usize) {
        for _ in 0..count {
            self.put(&[0]);
        }
    }

    /// Fills up with zeros to `length` bytes in all.
    pub(in crate::scsi) fn zeros_to(&mut self, length: usize) {
        self.zeros(length.saturating_sub(self.length));
    }

    /// Sets the byte at `at` to the count of bytes from `from` to here.
    pub(in crate::scsi) fn length_8(&mut self, at: usize, from: usize) {
        self.write_at(at, &[u8::try_from(self.length - from).unwrap_or(u8::MAX)]);
    }

    /// Sets the two bytes at `at` to the count of bytes from `from` to here.
    pub(in crate::scsi) fn length_16(&mut self, at: usize, from: usize) {
        self.write_at(at, &u16::try_from(self.length - from).unwrap_or(u16::MAX).to_be_bytes());
    }

    /// Sets the four bytes at `at` to the count of bytes from `from` to here.
    pub(in crate::scsi) fn length_32(&mut self, at: usize, from: usize) {
        self.write_at(at, &u32::try_from(self.length - from).unwrap_or(u32::MAX).to_be_bytes());
    }

    /// How many bytes of the slice are set.
    pub(in crate::scsi) fn finish(self) -> usize {
        self.length.min(self.out.len())
    }

    /// What of `bytes` is within the slice when they begin at `at`.
    fn write_at(&mut self, at: usize, bytes: &[u8]) {
        let Some(room) = self.out.get_mut(at..) else { return };
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_whole() {
        let mut out = [0xee; 6];
        let mut writer = Writer::new(&mut out[..5]);
        writer.put(&[1, 0, 0]);
        writer.put(&[2, 3, 4, 5]);
        writer.zeros_to(9);
        writer.length_16(1, 3);
        writer.length_8(8, 0);
        assert_eq!(writer.length(), 9);
        assert_eq!(writer.finish(), 5);
        assert_eq!(out, [1, 0, 6, 2, 3, 0xee]);
    }

    #[test]
    fn a_length_may_be_cut_in_the_middle() {
        let mut out = [0xee; 3];
        let mut writer = Writer::new(&mut out);
        writer.zeros(4);
        writer.put(&[0; 300]);
        writer.length_32(0, 4);
        assert_eq!(writer.finish(), 3);
        assert_eq!(out, [0, 0, 1]);
    }
}
