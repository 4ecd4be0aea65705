//! Another configuration, without a new start: only what differs is touched, and either all of it is done or nothing.
//!
//! [`plan`] says which calls lead there and what takes each of them back; here they are made. Deleting disks comes last:
//! it cannot be taken back, and what is left to do after a failure there is said.

mod access;
mod auth;
mod merge;
mod plan;
mod things;
mod ways;

use rustix::io::Errno;

use self::things::Family;
use super::config::{self, Plan};
use super::context::Context;
use super::fault::Fault;
use super::json::Json;
use super::methods;
use crate::control::done::Done;

/// What is said where a portal group is in the way: it may be that of another target's file.
const ADDS: &str = "to add the file to what is served, its groups under tags that are free, merge it (lunette apply --merge)";

/// A method and its parameters.
type Call = (String, Json);

/// A call, and those that take it back where something can.
#[derive(Clone, PartialEq, Debug)]
struct Step {
    call: Call,
    back: Option<Vec<Call>>,
}

/// Makes the configuration what `wanted` says, or says which calls would. What it does not say of a thing stays as it is; where
/// `is_merged` what is there stays, and `wanted` comes in addition.
///
/// # Errors
/// Something differs that cannot be changed while the daemon runs, or a call failed; then those before it are taken back.
pub(super) fn apply(
    context: &Context,
    wanted: &Plan,
    is_dry: bool,
    is_merged: bool,
) -> Result<Vec<Call>, Fault> {
    let _alone = context.apply_alone();
    let current = Plan::parse(&config::text(context)?).map_err(Fault::internal)?;
    // What it has is there still, and is not to stay.
    if let Some(name) = context.leaving_controller() {
        return Err(Fault::errno(
            Errno::BUSY,
            format_args!("controller {name} is being given back: try again when it is gone"),
        ));
    }
    let rotated = methods::auth::rotated(context)?;
    let refused = |mut problems: Vec<String>| {
        if !is_merged && problems.iter().any(|problem| problem.starts_with(Family::PortalGroup.name())) {
            problems.push(ADDS.to_owned());
        }
        Fault { detail: Some(problems.join("; ")), ..Fault::params("not while the daemon runs") }
    };
    let steps = match is_merged {
        true => merge::merge(&current, wanted).and_then(|all| plan::plan(&current, &all, &rotated)),
        false => plan::plan(&current, wanted, &rotated),
    };
    let steps = steps.map_err(refused)?;
    if !is_dry {
        // Who may come is what all of it says together: also after what failed was taken back.
        let held = Held::new(context)?;
        let made = make(context, &steps);
        made.and(held.release())?;
    }
    Ok(steps.into_iter().map(|step| step.call).collect())
}

/// Reviews are held back until it goes, whatever happens meanwhile.
struct Held<'a>(Option<&'a Context>);

impl Held<'_> {
    fn new(context: &Context) -> Result<Held<'_>, Fault> {
        context.control(|control, _| control.hold_reviews())?;
        context.set_applier(true);
        Ok(Held(Some(context)))
    }

    /// Waits until those are gone who are not welcome any more.
    fn release(mut self) -> Result<(), Fault> {
        let Some(context) = self.0.take() else { return Ok(()) };
        context.set_applier(false);
        let reviewed = context.control_and_wait(|control, _, done| {
            control.release_reviews(done);
            Ok(())
        });
        reviewed.map(drop)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.0.take() {
            context.set_applier(false);
            // A daemon that has stopped holds nothing back.
            let _ = context.control(|control, _| control.release_reviews(Done::nobody()));
        }
    }
}

fn make(context: &Context, steps: &[Step]) -> Result<(), Fault> {
    for (index, step) in steps.iter().enumerate() {
        let (method, params) = &step.call;
        let Err(fault) = methods::call(context, method, params.clone()) else { continue };
        let failed = format!("{method}: {}", fault.text());
        let remains = if step.back.is_none() {
            format!("everything else is done; {} calls are left", steps.len() - index)
        } else {
            match take_back(context, &steps[..index]) {
                Ok(()) => "nothing has changed".to_owned(),
                Err(failed) => format!("what was done before could not be taken back whole: {failed}"),
            }
        };
        return Err(Fault { message: format!("{failed}: {remains}"), ..fault });
    }
    Ok(())
}

/// All that can be; what failed of it.
fn take_back(context: &Context, steps: &[Step]) -> Result<(), String> {
    let mut failed = Vec::new();
    for (method, params) in steps.iter().rev().filter_map(|step| step.back.as_ref()).flatten() {
        if let Err(fault) = methods::call(context, method, params.clone()) {
            failed.push(format!("{method}: {}", fault.text()));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::rpc::service::Service;

    #[test]
    fn reviews_go_on_after_a_call_that_panics() {
        let service = Service::start();
        let holds = || service.remote.call(|control, _| control.holds_reviews()).unwrap();
        let panics = || {
            let _held = Held::new(&service.context).unwrap();
            assert!(holds());
            panic!("as planned");
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(!holds());
        let held = Held::new(&service.context).unwrap();
        assert!(holds());
        held.release().unwrap();
        assert!(!holds());
    }
}
