//! A bare echo pair: what kernel TCP can do here with the bytes of iSCSI reads and writes.

fn main() {}
