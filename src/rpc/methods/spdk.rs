//! Knobs of SPDK's that its configuration files always turn, so that such files load, and what its clients ask about them. There
//! is nothing to turn here.

use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Anything, Nothing, params};

macro_rules! knobs {
    ($($when:ident $name:literal),* $(,)?) => {
        &[$(method!($name, $when, Anything, ignore, "A knob of SPDK's: taken, and without effect.")),*]
    };
}

pub(super) const KNOBS: &[Method] = knobs![
    Startup "accel_set_options",
    Always "bdev_iscsi_set_options",
    Always "bdev_nvme_set_options",
    Always "bdev_raid_set_options",
    Startup "bdev_set_options",
    Always "framework_set_scheduler",
    Startup "iobuf_set_options",
    Always "log_enable_timestamps",
    Always "scheduler_set_options",
    Startup "sock_impl_set_options",
    Startup "sock_set_default_impl",
];

pub(super) const METHODS: &[Method] = &[
    method!(
        "iobuf_get_stats",
        Runtime,
        Nothing,
        iobuf_stats,
        "Tells that nothing here uses SPDK's pool of buffers."
    ),
    method!(
        "sock_get_default_impl",
        Always,
        Nothing,
        sock_default,
        "The one kind of socket there is: posix."
    ),
    method!(
        "sock_impl_get_options",
        Always,
        SockImpl,
        sock_options,
        "What SPDK's options of sockets would be for lunette's; sizes of 0 are the kernel's."
    ),
];

fn ignore(_: &Context, _: Anything) -> Outcome {
    Ok(Json::Bool(true))
}

fn iobuf_stats(_: &Context, _: Nothing) -> Outcome {
    Ok(Json::Array(Vec::new()))
}

fn sock_default(_: &Context, _: Nothing) -> Outcome {
    Ok(object! { "impl_name": "posix" })
}

params! {
    /// Of `sock_impl_get_options`.
    pub(super) struct SockImpl {
        /// The kind of socket.
        impl_name: String,
    }
}

fn sock_options(_: &Context, params: SockImpl) -> Outcome {
    if params.impl_name != "posix" {
        return Err(Fault::params(format_args!("impl_name: there is posix, not {:?}", params.impl_name)));
    }
    Ok(object! {
        "recv_buf_size": 0u64,
        "send_buf_size": 0u64,
        "enable_recv_pipe": false,
        "enable_quickack": false,
        "enable_placement_id": 0u64,
        "enable_zerocopy_send_server": false,
        "enable_zerocopy_send_client": false,
        "zerocopy_threshold": 0u64,
        "tls_version": 0u64,
        "enable_ktls": false,
    })
}
