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
