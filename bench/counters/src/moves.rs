//! The C library's copies, made anew so that they can be counted: `rep movsb` and `rep stosb`, one step a byte.
//!
//! Which of its many copies the C library takes depends on the processor, and so would the instructions that are
//! counted. What these move is read off the steps of their `rep` instructions (scripts/counters.py), data and values
//! apart, as they have one each. The RAM disk copies in the same way.
//!
//! An island of `unsafe`: the linker takes these in the place of the C library's, for this program and its libraries.
#![expect(unsafe_code, reason = "the C library's functions deal in raw memory")]

use std::arch::asm;

/// Whole blocks, and all that is at least so long, are data; the rest are values.
const DATA_BYTES_MIN: usize = 8192;
/// A block.
const BLOCK_BYTES: usize = 512;

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: each touches exactly the two ranges of the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!(
            "cmp rcx, {min}",
            "jae 2f",
            "test rcx, {mask}",
            "jz 2f",
            "rep movsb",
            "jmp 3f",
            "2:",
            "nop", // known to scripts/counters.py
            "rep movsb",
            "3:",
            min = const DATA_BYTES_MIN,
            mask = const BLOCK_BYTES - 1,
            inout("rcx") bytes => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack)
        );
    }
    to
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: no byte is written before it was read: `to` is not within what is read, or before all of it.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: it touches exactly the two ranges of the caller's promise, from their ends, as `to` lies in what is
    // read; the direction flag is set for it alone.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rcx") bytes => _,
            inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _,
            inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _,
            options(nostack)
        );
    }
    to
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    let [value, ..] = value.to_le_bytes();
    // SAFETY: it touches exactly the range of the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") bytes => _,
            inout("rdi") to => _,
            in("al") value,
            options(nostack, preserves_flags)
        );
    }
    to
}

#[cfg(test)]
mod tests {
    /// A row of bytes of which no two that are near are the same.
    fn row(bytes: usize) -> Vec<u8> {
        (0..=250).cycle().take(bytes).collect()
    }

    #[test]
    fn copies_are_copies() {
        for bytes in [0, 1, 511, 512, 513, 1024, 8191, 8192, 8193] {
            let (from, mut to) = (row(bytes), vec![0; bytes + 1]);
            to[..bytes].copy_from_slice(&from);
            assert!(to[..bytes].iter().eq(&from), "{bytes}");
            assert_eq!(to[bytes], 0, "{bytes}");
        }
    }

    #[test]
    fn moves_may_overlap() {
        for (from, to) in [(0, 1), (1, 0), (0, 700), (700, 0), (3, 3)] {
            let mut bytes = row(2000);
            bytes.copy_within(from..from + 1000, to);
            assert!(bytes[to..to + 1000].iter().eq(&row(2000)[from..from + 1000]), "{from} to {to}");
        }
    }

    #[test]
    fn what_is_set_is_set() {
        let mut bytes = row(1000);
        bytes[1..999].fill(7);
        assert!(bytes[1..999].iter().all(|byte| *byte == 7));
        assert_eq!([bytes[0], bytes[999]], [0, row(1000)[999]]);
    }
}
