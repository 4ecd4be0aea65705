//! Knobs of SPDK's that its configuration files always turn, so that such files load. There is nothing to turn here.

use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::json::Json;
use crate::rpc::params::Anything;

macro_rules! knobs {
    ($($when:ident $name:literal),* $(,)?) => {
        &[$(method!($name, $when, Anything, ignore, "A knob of SPDK's: taken, and without effect.")),*]
    };
}

pub(super) const METHODS: &[Method] = knobs![
    Startup "accel_set_options",
    Always "bdev_iscsi_set_options",
    Always "bdev_nvme_set_options",
    Always "bdev_raid_set_options",
    Startup "bdev_set_options",
    Always "framework_set_scheduler",
    Startup "iobuf_set_options",
    Startup "sock_impl_set_options",
    Startup "sock_set_default_impl",
];

fn ignore(_: &Context, _: Anything) -> Outcome {
    Ok(Json::Bool(true))
}
