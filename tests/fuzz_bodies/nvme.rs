//! The NVMe driver over a controller that says and does what the bytes say.

pub(super) fn one(data: &[u8]) {
    lunette::bdev::nvme::fuzzing::one(data);
}
