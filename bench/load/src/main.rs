//! A load generator that speaks iSCSI, cheap enough that the target is the bottleneck.

fn main() {}
