//! Authentication groups: the accounts that initiators may use, and what discovery sessions have to prove.

use super::{Method, Outcome, iscsi_fault, method};
use crate::control::auth::{Auth, AuthGroup, Chap};
use crate::control::error::ChangeError;
use crate::control::options::Options;
use crate::iscsi::chap::{Account, Credential, Secret};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};

pub(super) const METHODS: &[Method] = &[
    method!(
        "iscsi_get_auth_groups",
        Runtime,
        Nothing,
        get_auth_groups,
        "Lists the authentication groups, with their secrets, as SPDK does."
    ),
    method!(
        "iscsi_create_auth_group",
        Runtime,
        CreateAuthGroup,
        create_auth_group,
        "Makes an authentication group."
    ),
    method!(
        "iscsi_delete_auth_group",
        Runtime,
        AuthGroupTag,
        delete_auth_group,
        "Deletes an authentication group: who needs it cannot log in any more. Sessions stay."
    ),
    method!("iscsi_auth_group_add_secret", Runtime, AddSecret, add_secret, "Adds an account to a group."),
    method!(
        "iscsi_auth_group_remove_secret",
        Runtime,
        RemoveSecret,
        remove_secret,
        "Removes an account from a group. Sessions stay."
    ),
    method!(
        "iscsi_set_discovery_auth",
        Runtime,
        SetDiscoveryAuth,
        set_discovery_auth,
        "Changes what discovery sessions have to prove, but at portal groups that have it set for themselves."
    ),
];

params! {
    /// An account.
    pub(super) struct SecretParams {
        /// The initiator's user name.
        user: String,
        /// Its secret.
        secret: String,
        /// The target's user name, for mutual CHAP.
        muser: Option<String>,
        /// The target's secret.
        msecret: Option<String>,
    }
}

params! {
    /// Of `iscsi_create_auth_group`.
    pub(super) struct CreateAuthGroup {
        /// Its tag; not 0.
        tag: u32,
        /// Accounts.
        secrets: Vec<SecretParams> = Vec::new(),
    }
}

params! {
    /// Of `iscsi_delete_auth_group`.
    pub(super) struct AuthGroupTag {
        /// Its tag.
        tag: u32,
    }
}

params! {
    /// Of `iscsi_auth_group_add_secret`.
    pub(super) struct AddSecret {
        /// The group's tag.
        tag: u32,
        /// The initiator's user name.
        user: String,
        /// Its secret: 12 to 16 bytes work with every initiator.
        secret: String,
        /// The target's user name, for mutual CHAP.
        muser: Option<String>,
        /// The target's secret; not the initiator's.
        msecret: Option<String>,
    }
}

params! {
    /// Of `iscsi_auth_group_remove_secret`.
    pub(super) struct RemoveSecret {
        /// The group's tag.
        tag: u32,
        /// The initiator's user name.
        user: String,
    }
}

params! {
    /// Of `iscsi_set_discovery_auth`.
    pub(super) struct SetDiscoveryAuth {
        /// CHAP is not done.
        disable_chap: bool = false,
        /// CHAP has to be done.
        require_chap: bool = false,
        /// The target has to prove itself too.
        mutual_chap: bool = false,
        /// The authentication group whose secrets count; 0 is none.
        chap_group: u32 = 0,
    }
}

/// An account of what was given.
fn account(params: SecretParams) -> Result<Account, Fault> {
    let SecretParams { user, secret, muser, msecret } = params;
    let target = match (muser, msecret) {
        (None, None) => None,
        (Some(name), Some(secret)) => Some(Credential { name, secret: Secret(secret.into_bytes()) }),
        _ => {
            return Err(Fault::params(format_args!(
                "muser and msecret of {user:?}: one is given without the other"
            )));
        }
    };
    Ok(Account { initiator: Credential { name: user, secret: Secret(secret.into_bytes()) }, target })
}

fn answer(result: Result<(), ChangeError>) -> Outcome {
    result.map(|()| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn create_auth_group(context: &Context, params: CreateAuthGroup) -> Outcome {
    let accounts = params.secrets.into_iter().map(account).collect::<Result<Vec<_>, _>>()?;
    let group = AuthGroup { tag: params.tag, accounts };
    answer(context.control(|control, _| control.create_auth_group(group))?)
}

fn delete_auth_group(context: &Context, AuthGroupTag { tag }: AuthGroupTag) -> Outcome {
    answer(context.control(move |control, _| control.delete_auth_group(tag))?)
}

fn add_secret(context: &Context, params: AddSecret) -> Outcome {
    let AddSecret { tag, user, secret, muser, msecret } = params;
    let account = account(SecretParams { user, secret, muser, msecret })?;
    answer(context.control(move |control, _| control.add_account(tag, account))?)
}

fn remove_secret(context: &Context, RemoveSecret { tag, user }: RemoveSecret) -> Outcome {
    answer(context.control(move |control, _| control.remove_account(tag, &user))?)
}

fn set_discovery_auth(context: &Context, params: SetDiscoveryAuth) -> Outcome {
    let chap = Chap::from_switches(params.disable_chap, params.require_chap, params.mutual_chap)
        .map_err(|error| iscsi_fault(&error))?;
    let discovery = Auth { chap, group: params.chap_group };
    answer(context.control(move |control, _| {
        let options = Options { discovery, ..control.options().clone() };
        control.set_options(options)
    })?)
}

fn get_auth_groups(context: &Context, _: Nothing) -> Outcome {
    context.control(|control, _| control.auth_groups().map(describe).collect::<Json>())
}

/// As the call takes it.
pub(in crate::rpc) fn describe(group: &AuthGroup) -> Json {
    let text = |secret: &Secret| String::from_utf8_lossy(&secret.0).into_owned();
    let account = |account: &Account| {
        let Account { initiator, target } = account;
        let mut secret = object! { "user": &initiator.name, "secret": text(&initiator.secret) };
        if let Some(target) = target {
            secret.push("muser", &target.name);
            secret.push("msecret", text(&target.secret));
        }
        secret
    };
    object! { "tag": group.tag, "secrets": group.accounts.iter().map(account).collect::<Json>() }
}
