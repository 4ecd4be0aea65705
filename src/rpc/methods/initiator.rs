//! Initiator groups: who may come.

use super::{Method, Outcome, iscsi_fault, method};
use crate::control::access::{InitiatorGroup, NameRule, Netmask};
use crate::control::error::ChangeError;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, Take, Wrong, params};

pub(super) const METHODS: &[Method] = &[
    method!(
        "iscsi_get_initiator_groups",
        Runtime,
        Nothing,
        get_initiator_groups,
        "Lists the initiator groups."
    ),
    method!(
        "iscsi_create_initiator_group",
        Runtime,
        CreateInitiatorGroup,
        create_initiator_group,
        "Says under a tag who may come, and from where."
    ),
    method!(
        "iscsi_delete_initiator_group",
        Runtime,
        InitiatorGroupTag,
        delete_initiator_group,
        "Deletes an initiator group and the maps that name it. Who is not let in any more, or finds LUNs of the group's own, is asked \
         to log out, and its session is ended 3 s later; then this is answered."
    ),
    method!(
        "iscsi_initiator_group_add_initiators",
        Runtime,
        ChangeInitiators,
        add_initiators,
        "Adds initiators and netmasks to a group: all of them or none. Sessions of whom that keeps out end as with \
         iscsi_delete_initiator_group."
    ),
    method!(
        "iscsi_initiator_group_remove_initiators",
        Runtime,
        ChangeInitiators,
        remove_initiators,
        "Removes initiators and netmasks from a group: all of them or none. Sessions of who is not let in any more end as with \
         iscsi_delete_initiator_group."
    ),
];

impl Take for NameRule {
    fn kind() -> String {
        "an initiator's name, a pattern with * and ?, or ANY; ! before it keeps out".to_owned()
    }

    fn take(json: Json) -> Result<NameRule, Wrong> {
        NameRule::parse(&String::take(json)?).map_err(Wrong::new)
    }
}

impl Take for Netmask {
    fn kind() -> String {
        "ADDRESS/BITS, an address, or ANY".to_owned()
    }

    fn take(json: Json) -> Result<Netmask, Wrong> {
        Netmask::parse(&String::take(json)?).map_err(Wrong::new)
    }
}

params! {
    /// Of `iscsi_create_initiator_group`.
    pub(super) struct CreateInitiatorGroup {
        /// Its tag.
        tag: u32,
        /// Initiators; the first that fits counts.
        initiators: Vec<NameRule>,
        /// Where they have to come from: any of these.
        netmasks: Vec<Netmask>,
    }
}

params! {
    /// Of calls about an initiator group.
    pub(super) struct InitiatorGroupTag {
        /// Its tag.
        tag: u32,
    }
}

params! {
    /// Of calls that change an initiator group.
    pub(super) struct ChangeInitiators {
        /// Its tag.
        tag: u32,
        /// Initiators, as they were written.
        initiators: Vec<NameRule> = Vec::new(),
        /// Netmasks, as they were written.
        netmasks: Vec<Netmask> = Vec::new(),
    }
}

fn create_initiator_group(context: &Context, params: CreateInitiatorGroup) -> Outcome {
    let CreateInitiatorGroup { tag, initiators, netmasks } = params;
    for (name, is_empty) in [("initiators", initiators.is_empty()), ("netmasks", netmasks.is_empty())] {
        // A group whose last entry was removed is one that nobody may come by, and is saved so.
        if is_empty && !context.is_of_file() {
            return Err(Fault::params(format_args!("{name}: nobody could come; [\"ANY\"] lets everybody")));
        }
    }
    let group = InitiatorGroup { tag, initiators, netmasks };
    answer(context.control(|control, _| control.create_initiator_group(group))?)
}

fn delete_initiator_group(context: &Context, InitiatorGroupTag { tag }: InitiatorGroupTag) -> Outcome {
    answer(context.control_and_wait(move |control, _, done| control.delete_initiator_group(tag, done))?)
}

fn add_initiators(context: &Context, params: ChangeInitiators) -> Outcome {
    let ChangeInitiators { tag, initiators, netmasks } = params;
    answer(
        context.control_and_wait(move |control, _, done| {
            control.add_initiators(tag, initiators, netmasks, done)
        })?,
    )
}

fn remove_initiators(context: &Context, params: ChangeInitiators) -> Outcome {
    let ChangeInitiators { tag, initiators, netmasks } = params;
    answer(context.control_and_wait(move |control, _, done| {
        control.remove_initiators(tag, &initiators, &netmasks, done)
    })?)
}

fn answer<T>(result: Result<T, ChangeError>) -> Outcome {
    result.map(|_| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn get_initiator_groups(context: &Context, _: Nothing) -> Outcome {
    context.control(|control, _| control.initiator_groups().map(describe).collect::<Json>())
}

/// As the call takes it.
pub(in crate::rpc) fn describe(group: &InitiatorGroup) -> Json {
    object! {
        "tag": group.tag,
        "initiators": group.initiators.iter().map(NameRule::text).collect::<Json>(),
        "netmasks": group.netmasks.iter().map(Netmask::text).collect::<Json>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::config::{self, Plan};
    use crate::rpc::methods;
    use crate::rpc::service::Service;

    #[test]
    fn a_group_that_was_emptied_is_there_after_the_next_start() {
        let service = Service::start();
        let call = |method, params: &str| {
            methods::call(&service.context, method, Json::parse(params).unwrap()).map(drop)
        };
        let create = "iscsi_create_initiator_group";
        for (tag, netmasks) in [(1, "[\"ANY\"]"), (2, "[\"10.0.0.0/8\",\"::1\"]")] {
            let params = format!(r#"{{"tag":{tag},"initiators":["iqn.a"],"netmasks":{netmasks}}}"#);
            call(create, &params).unwrap();
        }
        let remove = "iscsi_initiator_group_remove_initiators";
        call(remove, r#"{"tag":1,"initiators":["iqn.a"]}"#).unwrap();
        call(remove, r#"{"tag":2,"netmasks":["10.0.0.0/8","::1"]}"#).unwrap();
        // Said by hand it is a mistake.
        let fault = call(create, r#"{"tag":3,"initiators":[],"netmasks":["ANY"]}"#).unwrap_err();
        assert!(fault.text().contains("initiators: nobody could come"), "{}", fault.text());

        let saved = config::text(&service.context).unwrap();
        let next = Service::of(Plan::parse(&saved).unwrap());
        assert_eq!(config::text(&next.context).unwrap(), saved);
        let groups = methods::call(&next.context, "iscsi_get_initiator_groups", Json::Null).unwrap();
        assert_eq!(
            groups.to_string(),
            r#"[{"tag":1,"initiators":[],"netmasks":["ANY"]},{"tag":2,"initiators":["iqn.a"],"netmasks":[]}]"#
        );
    }
}
