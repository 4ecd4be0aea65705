//! Files of calls: what rebuilds the state, by subsystem, in SPDK's form.

use super::context::Context;
use super::fault::Fault;
use super::json::Json;

/// What SPDK's tools look for, each with those it depends on, which stand before it. The state is in two of them.
pub const SUBSYSTEMS: &[(&str, &[&str])] = &[
    ("iobuf", &[]),
    ("sock", &[]),
    ("accel", &["iobuf"]),
    ("keyring", &[]),
    ("bdev", &["accel", "keyring", "sock", "iobuf"]),
    ("scheduler", &[]),
    ("scsi", &["bdev"]),
    ("iscsi", &["scsi", "sock"]),
];

/// The calls that rebuild a subsystem; none where there is no such.
pub(super) fn of(_context: &Context, name: &str) -> Result<Option<Json>, Fault> {
    if !SUBSYSTEMS.iter().any(|(known, _)| *known == name) {
        return Ok(None);
    }
    Ok(Some(Json::Array(Vec::new())))
}
