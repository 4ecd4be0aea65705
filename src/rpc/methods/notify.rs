//! What happened to bdevs, for those who ask again and again: `notify_get_types`, `notify_get_notifications`.

use super::{Method, Outcome, method};
use crate::control::notices::{Notice, What};
use crate::rpc::context::Context;
use crate::rpc::json::object;
use crate::rpc::params::{Nothing, params};

pub(super) const METHODS: &[Method] = &[
    method!("notify_get_types", Runtime, Nothing, types, "Lists what notifications can be of."),
    method!(
        "notify_get_notifications",
        Runtime,
        GetNotifications,
        notifications,
        "Lists the notifications from a number on, oldest first. The last 1024 are kept."
    ),
];

fn types(_: &Context, _: Nothing) -> Outcome {
    Ok(What::ALL.iter().map(|what| what.name()).collect())
}

params! {
    /// Of `notify_get_notifications`.
    pub(super) struct GetNotifications {
        /// The first number; one more than that of the last one seen.
        id: u64 = 0,
        /// How many at most; 0 for all.
        max: u64 = 0,
    }
}

fn notifications(context: &Context, params: GetNotifications) -> Outcome {
    let GetNotifications { id, max } = params;
    let most = if max == 0 { usize::MAX } else { usize::try_from(max).unwrap_or(usize::MAX) };
    let notices = context
        .control(move |control, _| control.notices(id).take(most).cloned().collect::<Vec<Notice>>())?;
    let one = |notice: &Notice| object! { "type": notice.what.name(), "ctx": &notice.bdev, "id": notice.id };
    Ok(notices.iter().map(one).collect())
}
