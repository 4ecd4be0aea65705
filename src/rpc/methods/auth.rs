//! Authentication groups: the accounts that initiators may use, and what discovery sessions have to prove.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::{Method, Outcome, iscsi_fault, method};
use crate::control::auth::{Auth, AuthGroup, Chap};
use crate::control::error::ChangeError;
use crate::control::options::Options;
use crate::iscsi::chap::{Account, Credential, Secret};
use crate::rpc::auth_file::{self, AuthFile};
use crate::rpc::context::Context;
use crate::rpc::difference::hide;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::rpc::secrets::{Origin, Origins, Sealed};

pub(super) const METHODS: &[Method] = &[
    method!(
        "iscsi_get_auth_groups",
        Runtime,
        Nothing,
        get_auth_groups,
        "Lists the authentication groups. Secrets that were said are stars; SPDK shows them."
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
        "lunette_auth_group_reread_secrets",
        Runtime,
        AuthGroupTag,
        reread_secrets,
        "Reads the secrets of a group's accounts again that are named, not said: all of them or none; a group of auth_file is what that \
         says now. Sessions stay."
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
        secret: Option<String>,
        /// The target's user name, for mutual CHAP.
        muser: Option<String>,
        /// The target's secret.
        msecret: Option<String>,
        /// A file that has the secret, instead: absolute, and nobody's but its owner's and his group's. It is read when the call is made,
        /// and what is saved names it.
        lunette_secret_file: Option<PathBuf>,
        /// A credential of the systemd unit (LoadCredential=) that has the secret, instead.
        lunette_secret_credential: Option<String>,
        /// A file that has the target's secret.
        lunette_msecret_file: Option<PathBuf>,
        /// A credential that has the target's secret.
        lunette_msecret_credential: Option<String>,
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
        secret: Option<String>,
        /// The target's user name, for mutual CHAP.
        muser: Option<String>,
        /// The target's secret; not the initiator's.
        msecret: Option<String>,
        /// A file that has the secret, instead: absolute, and nobody's but its owner's and his group's. It is read when the call is made,
        /// and what is saved names it.
        lunette_secret_file: Option<PathBuf>,
        /// A credential of the systemd unit (LoadCredential=) that has the secret, instead.
        lunette_secret_credential: Option<String>,
        /// A file that has the target's secret.
        lunette_msecret_file: Option<PathBuf>,
        /// A credential that has the target's secret.
        lunette_msecret_credential: Option<String>,
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

/// A secret that is said or named, of this user; and where it is, if it is named. None where nothing is given.
fn secret(
    user: &str,
    said: Option<String>,
    file: Option<PathBuf>,
    credential: Option<String>,
) -> Result<Option<(Secret, Option<Origin>)>, Fault> {
    let origin = match (said, file, credential) {
        (None, None, None) => return Ok(None),
        (Some(said), None, None) => return Ok(Some((Secret(said.into_bytes()), None))),
        (None, Some(path), None) => Origin::File(path),
        (None, None, Some(name)) => Origin::Credential(name),
        _ => return Err(Fault::params(format_args!("the secret of {user:?} is given in more than one way"))),
    };
    let secret = origin.read().map_err(|why| Fault::params(format_args!("the secret of {user:?}: {why}")))?;
    Ok(Some((secret, Some(origin))))
}

/// An account of what was given, and where its secrets are.
fn account(params: SecretParams) -> Result<(Account, Origins), Fault> {
    let user = params.user;
    let initiator =
        secret(&user, params.secret, params.lunette_secret_file, params.lunette_secret_credential)?;
    let Some((own, own_origin)) = initiator else {
        return Err(Fault::params(format_args!(
            "secret of {user:?}: it is missing; it is said, or named by lunette_secret_file or lunette_secret_credential"
        )));
    };
    let target =
        secret(&user, params.msecret, params.lunette_msecret_file, params.lunette_msecret_credential)?;
    let (target, target_origin) = match (params.muser, target) {
        (None, None) => (None, None),
        (Some(name), Some((secret, origin))) => (Some(Credential { name, secret }), origin),
        _ => {
            return Err(Fault::params(format_args!(
                "muser and msecret of {user:?}: one is given without the other"
            )));
        }
    };
    let account = Account { initiator: Credential { name: user, secret: own }, target };
    Ok((account, [own_origin, target_origin]))
}

fn answer(result: Result<(), ChangeError>) -> Outcome {
    result.map(|()| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn create_auth_group(context: &Context, params: CreateAuthGroup) -> Outcome {
    let given = params.secrets.into_iter().map(account).collect::<Result<Vec<_>, _>>()?;
    let (accounts, origins): (Vec<Account>, Vec<Origins>) = given.into_iter().unzip();
    let users: Vec<String> = accounts.iter().map(|account| account.initiator.name.clone()).collect();
    let (tag, sealed) = (params.tag, Arc::clone(&context.sealed));
    let is_loading = context.is_loading();
    answer(context.control(move |control, _| {
        let group = AuthGroup { tag, accounts };
        if is_loading && sealed.is_of_file(tag) {
            // SPDK saves what it has read from there as a call, too.
            tracing::info!(tag, "of auth_file, and by a call of its own: the call counts");
            auth_file::replace(control, &BTreeSet::from([tag]), vec![group])?;
            sealed.take_from_file(tag);
        } else {
            control.create_auth_group(group)?;
        }
        // In the same turn: what is saved from the next on does not say what is only named.
        users.into_iter().zip(origins).for_each(|(user, origins)| sealed.set(tag, user, origins));
        Ok(())
    })?)
}

/// Refuses to change by a call what a file of accounts says.
fn check_own(context: &Context, tag: u32) -> Result<(), Fault> {
    match context.sealed.auth_file().filter(|file| file.tags.contains(&tag)) {
        None => Ok(()),
        Some(AuthFile { path, .. }) => Err(Fault::errno(
            Errno::PERM,
            format_args!(
                "authentication group {tag} is that of auth_file {}: change it there, then call lunette_auth_group_reread_secrets",
                path.display()
            ),
        )),
    }
}

fn delete_auth_group(context: &Context, AuthGroupTag { tag }: AuthGroupTag) -> Outcome {
    check_own(context, tag)?;
    answer(context.control(move |control, _| control.delete_auth_group(tag))?)
}

fn add_secret(context: &Context, params: AddSecret) -> Outcome {
    check_own(context, params.tag)?;
    let (tag, sealed) = (params.tag, Arc::clone(&context.sealed));
    let (account, origins) = account(SecretParams {
        user: params.user,
        secret: params.secret,
        muser: params.muser,
        msecret: params.msecret,
        lunette_secret_file: params.lunette_secret_file,
        lunette_secret_credential: params.lunette_secret_credential,
        lunette_msecret_file: params.lunette_msecret_file,
        lunette_msecret_credential: params.lunette_msecret_credential,
    })?;
    let user = account.initiator.name.clone();
    answer(context.control(move |control, _| {
        control.add_account(tag, account)?;
        sealed.set(tag, user, origins);
        Ok(())
    })?)
}

fn remove_secret(context: &Context, RemoveSecret { tag, user }: RemoveSecret) -> Outcome {
    check_own(context, tag)?;
    answer(context.control(move |control, _| control.remove_account(tag, &user))?)
}

/// The accounts of the groups that `are_meant` some of whose secrets are named, with where these are.
fn named(
    context: &Context,
    are_meant: impl Fn(u32) -> bool + Send + 'static,
) -> Result<Vec<(u32, Account, Origins)>, Fault> {
    let sealed = Arc::clone(&context.sealed);
    context.control(move |control, _| {
        let groups = control.auth_groups().filter(|group| are_meant(group.tag));
        let accounts =
            groups.flat_map(|group| group.accounts.iter().map(move |account| (group.tag, account.clone())));
        let with_origins = accounts.map(|(tag, account)| {
            let origins = sealed.of(tag, &account.initiator.name);
            (tag, account, origins)
        });
        with_origins.filter(|(.., origins)| *origins != [None, None]).collect()
    })
}

/// The account with its named secrets as they are now.
fn reread(account: &Account, origins: &Origins) -> Result<Account, Fault> {
    let user = &account.initiator.name;
    let read = |origin: &Origin| {
        origin.read().map_err(|why| Fault::params(format_args!("the secret of {user:?}: {why}")))
    };
    let mut account = account.clone();
    if let Some(origin) = &origins[0] {
        account.initiator.secret = read(origin)?;
    }
    if let (Some(origin), Some(target)) = (&origins[1], &mut account.target) {
        target.secret = read(origin)?;
    }
    Ok(account)
}

/// The tags of groups some of whose named secrets are not what they were, or cannot be read any more.
pub(in crate::rpc) fn rotated(context: &Context) -> Result<Vec<String>, Fault> {
    let is_other =
        |account: &Account, origins: &Origins| !reread(account, origins).is_ok_and(|new| new == *account);
    let accounts = named(context, |_| true)?;
    let mut tags: Vec<String> = accounts
        .iter()
        .filter(|(_, account, origins)| is_other(account, origins))
        .map(|(tag, ..)| tag.to_string())
        .collect();
    tags.dedup();
    Ok(tags)
}

/// Makes a group what the file of accounts says now.
fn reread_file(context: &Context, tag: u32, path: &Path) -> Outcome {
    let mut groups = auth_file::read(path).map_err(Fault::params)?;
    groups.retain(|group| group.tag == tag);
    if groups.is_empty() {
        return Err(Fault::params(format_args!("auth_file: {} has no [AuthGroup{tag}]", path.display())));
    }
    answer(context.control(move |control, _| auth_file::replace(control, &BTreeSet::from([tag]), groups))?)
}

fn reread_secrets(context: &Context, AuthGroupTag { tag }: AuthGroupTag) -> Outcome {
    if let Some(file) = context.sealed.auth_file().filter(|file| file.tags.contains(&tag)) {
        return reread_file(context, tag, &file.path);
    }
    let accounts = named(context, move |group| group == tag)?;
    let read = |(_, account, origins): (u32, Account, Origins)| Ok((reread(&account, &origins)?, origins));
    let accounts: Vec<(Account, Origins)> = accounts.into_iter().map(read).collect::<Result<_, Fault>>()?;
    let sealed = Arc::clone(&context.sealed);
    answer(context.control(move |control, _| {
        // What was set meanwhile is newer.
        let still = accounts
            .into_iter()
            .filter(|(account, origins)| sealed.of(tag, &account.initiator.name) == *origins);
        control.replace_accounts(tag, still.map(|(account, _)| account).collect())
    })?)
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
    let sealed = Arc::clone(&context.sealed);
    context.control(move |control, _| {
        let file = sealed.auth_file();
        let described = control.auth_groups().map(|group| {
            let mut described = describe(group, &sealed);
            if let Some(file) = file.as_ref().filter(|file| file.tags.contains(&group.tag)) {
                described.push("lunette_auth_file", file.path.to_string_lossy().into_owned());
            }
            described
        });
        let mut groups = described.collect::<Json>();
        hide(&mut groups);
        groups
    })
}

/// As the call takes it: secrets that were named are named.
pub(in crate::rpc) fn describe(group: &AuthGroup, sealed: &Sealed) -> Json {
    let push = |json: &mut Json, name: &str, secret: &Secret, origin: Option<Origin>| match origin {
        None => json.push(name, String::from_utf8_lossy(&secret.0).into_owned()),
        Some(Origin::File(path)) => {
            json.push(&format!("lunette_{name}_file"), path.to_string_lossy().into_owned());
        }
        Some(Origin::Credential(credential)) => json.push(&format!("lunette_{name}_credential"), credential),
    };
    let account = |account: &Account| {
        let Account { initiator, target } = account;
        let [own, of_target] = sealed.of(group.tag, &initiator.name);
        let mut secret = object! { "user": &initiator.name };
        push(&mut secret, "secret", &initiator.secret, own);
        if let Some(target) = target {
            secret.push("muser", &target.name);
            push(&mut secret, "msecret", &target.secret, of_target);
        }
        secret
    };
    object! { "tag": group.tag, "secrets": group.accounts.iter().map(account).collect::<Json>() }
}
