//! Files of calls, in SPDK's form: what rebuilds the state, subsystem by subsystem.
//!
//! A file is checked as a whole before the first call is made, and portals take connections in only when every call has
//! succeeded: an error anywhere serves nothing. What is saved and loaded is saved again byte by byte.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::context::Context;
use super::fault::Fault;
use super::json::{Json, object};
use super::methods::{self, When, auth, initiator, options, portal, qos, target, times, unit};
use super::recipes::{NVME, Recipe};
use super::secrets::Sealed;
use crate::control::Control;
use crate::control::auth::AuthGroup;
use crate::control::portals::PortalGroup;
use crate::limits::CONFIG_BYTES_MAX;
use crate::net::kernel::KernelNet;
use crate::time::MS_NS;

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

/// Calls of what threads of their own do.
#[derive(Clone)]
struct Own {
    /// NVMe controllers, also those that are missing.
    controllers: Vec<Json>,
    hotplug: Option<Json>,
    isns: Option<Json>,
    recordings: Option<Json>,
    /// Where secrets are.
    sealed: Arc<Sealed>,
}

impl Own {
    fn of(context: &Context) -> Own {
        Own {
            controllers: context.controller_calls(),
            hotplug: context.nvme.hotplug.call(),
            isns: context.isns.call(),
            recordings: context.recordings.call(),
            sealed: Arc::clone(&context.sealed),
        }
    }
}

/// The calls that rebuild a subsystem; none where there is no such.
pub(super) fn of(context: &Context, name: &str) -> Result<Option<Json>, Fault> {
    let Some((name, _)) = SUBSYSTEMS.iter().find(|(known, _)| *known == name) else { return Ok(None) };
    let own = Own::of(context);
    context.control(move |control, _| calls(control, name, own)).map(Some)
}

/// The calls that rebuild everything.
pub(super) fn all(context: &Context) -> Result<Json, Fault> {
    // In one turn of control's, so that the parts belong together.
    let own = Own::of(context);
    let subsystems = context.control(move |control, _| {
        let one = |(name, _): &(&'static str, _)| {
            object! { "subsystem": *name, "config": calls(control, name, own.clone()) }
        };
        SUBSYSTEMS.iter().map(one).collect::<Json>()
    })?;
    Ok(object! { "subsystems": subsystems })
}

/// Their text, as it is written to files.
pub(super) fn text(context: &Context) -> Result<String, Fault> {
    let mut text = String::new();
    all(context)?.write_pretty(&mut text);
    text.push('\n');
    Ok(text)
}

fn calls(control: &Control<KernelNet>, subsystem: &str, own: Own) -> Json {
    match subsystem {
        "bdev" => bdev_calls(control, own),
        "iscsi" => iscsi_calls(control, own),
        _ => Json::Array(Vec::new()),
    }
}

fn call(method: &str, params: Json) -> Json {
    object! { "method": method, "params": params }
}

fn bdev_calls(control: &Control<KernelNet>, own: Own) -> Json {
    // Parts of a disk have the call in common that makes them.
    let mut seen = BTreeSet::new();
    let recipes =
        control.bdevs().map(|entry| entry.spec.recipe.as_str()).filter(|recipe| seen.insert(*recipe));
    let recipes = recipes.map(Recipe::parse);
    // A controller's call is its own, and makes all of its disks.
    let recipes = recipes.filter(|recipe| recipe.method() != NVME).filter_map(Recipe::into_call);
    let identities = control.bdevs().filter_map(|entry| unit::identity_call(&entry.name, &entry.chosen));
    let histograms = control.bdevs().filter_map(times::call);
    own.controllers
        .into_iter()
        .chain(recipes)
        .chain(own.hotplug)
        .chain(histograms)
        .chain([object! { "method": "bdev_wait_for_examine" }])
        .chain(identities)
        .chain(qos::bdev_calls(control))
        .collect()
}

fn iscsi_calls(control: &Control<KernelNet>, own: Own) -> Json {
    let options = [call("iscsi_set_options", options::describe(control.options(), &own.sealed))];
    let portals = control.portal_groups().map(|group| {
        let mut params = portal::describe(group);
        if !group.is_started {
            params.push("wait", true);
        }
        call("iscsi_create_portal_group", params)
    });
    let initiators = control.initiator_groups().map(initiator::describe);
    let initiators = initiators.map(|params| call("iscsi_create_initiator_group", params));
    let targets = control.targets().flat_map(|target| target::calls(&target));
    let targets = targets.map(|(method, params)| call(method, params));
    let describe = |group: &AuthGroup| auth::describe(group, &own.sealed);
    // What a file of accounts says is made of it again.
    let groups = control.auth_groups().filter(|group| !own.sealed.is_of_file(group.tag));
    let auth = groups.map(|group| call("iscsi_create_auth_group", describe(group)));
    let portal_auth = control.portal_groups().filter_map(portal_auth_call);
    let slow_io = control
        .slow_io()
        .map(|ns| call("lunette_slow_io_set_options", object! { "threshold_ms": ns / MS_NS }));
    options
        .into_iter()
        .chain(portals)
        .chain(initiators)
        .chain(qos::initiator_calls(control))
        .chain(targets)
        .chain(auth)
        .chain(portal_auth)
        .chain(unit::access_calls(control))
        .chain(own.isns)
        .chain(slow_io)
        .chain(own.recordings)
        .collect()
}

/// SPDK does not save what discovery sessions have to prove at a portal group.
fn portal_auth_call(group: &PortalGroup) -> Option<Json> {
    let auth = group.discovery?;
    let (disable_chap, require_chap, mutual_chap) = auth.chap.switches();
    let params = object! {
        "tag": group.tag,
        "disable_chap": disable_chap,
        "require_chap": require_chap,
        "mutual_chap": mutual_chap,
        "chap_group": auth.group,
    };
    Some(call("iscsi_portal_group_set_auth", params))
}

/// A call in a file.
#[derive(Clone, PartialEq, Debug)]
struct Step {
    /// Where it stands, for people.
    place: String,
    method: String,
    params: Json,
    when: When,
}

/// Calls that make bdevs of others.
const OF_OTHERS: &[&str] = &[
    "bdev_delay_create",
    "bdev_error_create",
    "bdev_passthru_create",
    "bdev_raid_create",
    "bdev_split_create",
];

impl Step {
    /// Whether it failed for want of a bdev that may come later in the file.
    fn may_wait(&self, fault: &Fault) -> bool {
        fault.code == -Errno::NODEV.raw_os_error() && OF_OTHERS.contains(&self.method.as_str())
    }

    fn makes_bdev(&self) -> bool {
        self.method.starts_with("bdev_") || self.method.starts_with("lunette_")
    }

    fn failed(&self, fault: &Fault) -> String {
        format!("{}: {}: {}", self.place, self.method, fault.text())
    }
}

/// A file that was read and whose calls could all be made, as far as they tell by themselves.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong and where, for people.
    pub fn read(path: &Path) -> Result<Plan, String> {
        let text = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Plan::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn parse(text: &str) -> Result<Plan, String> {
        let root = Json::parse(text).map_err(|error| error.to_string())?;
        let Some(Json::Array(subsystems)) = root.member("subsystems") else {
            return Err("it is not an object with an array \"subsystems\"".to_owned());
        };
        let mut steps = Vec::new();
        for (index, subsystem) in subsystems.iter().enumerate() {
            let place = match subsystem.member("subsystem").and_then(Json::text) {
                Some(name) => format!("subsystem {name}"),
                None => format!("subsystem number {}", index + 1),
            };
            match subsystem.member("config") {
                None | Some(Json::Null) => {}
                Some(Json::Array(elements)) => read_calls(elements, &place, &mut steps)?,
                Some(other) => {
                    return Err(format!("{place}: config is to be an array, not {}", other.kind()));
                }
            }
        }
        Ok(Plan { steps })
    }

    /// Whether there are secrets in it: not the names of the files that they are in, but themselves.
    pub fn has_secrets(&self) -> bool {
        self.steps.iter().any(|step| tells_secret(&step.params))
    }

    /// What is to be said of a file that it was read from, if others can read secrets there.
    pub fn exposure(&self, path: &Path) -> Option<String> {
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.mode());
        let is_open = mode & 0o077 != 0 && self.has_secrets();
        is_open.then(|| format!("{0}: others can read the secrets in it: chmod 600 {0}", path.display()))
    }

    /// The calls, in the order of the file: method and parameters.
    pub fn calls(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.steps.iter().map(|step| (step.method.as_str(), &step.params))
    }

    /// Makes the calls: first those that belong before `framework_start_init`, then the others, each in the order of the
    /// file. `context` is still at [`super::context::Stage::Startup`]; where `starts` it has left that afterwards.
    ///
    /// # Errors
    /// The first that failed, for people. Whatever was built is to be thrown away with the daemon.
    pub fn run(self, context: &Context, starts: bool) -> Result<(), String> {
        context.hold_portals();
        let (early, late): (Vec<Step>, Vec<Step>) =
            self.steps.into_iter().partition(|step| step.when != When::Runtime);
        make(early, context)?;
        if !starts && late.is_empty() {
            return context.release_portals().map_err(|fault| fault.text());
        }
        context.start();
        make(late, context)?;
        super::mirrors::doubt_absent(context);
        context.release_portals().and_then(|()| context.begin_keeping()).map_err(|fault| fault.text())
    }
}

/// A file's text, which has a bound: a device would never end.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = CONFIG_BYTES_MAX + 1;
    if File::open(path)?.take(most).read_to_string(&mut text)? as u64 == most {
        let what = format!("it has more than {} MiB", CONFIG_BYTES_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

fn make(steps: Vec<Step>, context: &Context) -> Result<(), String> {
    let call = |step: &Step| methods::call(context, &step.method, step.params.clone());
    // SPDK saves bdevs that are made of others before those.
    let mut waiting: Vec<(Step, Fault)> = Vec::new();
    for step in steps {
        match call(&step) {
            Err(fault) if step.may_wait(&fault) => {
                waiting.push((step, fault));
                continue;
            }
            made => made.map_err(|fault| step.failed(&fault))?,
        };
        // What was waited for may be there now, and what is made of that then.
        let mut is_any_made = step.makes_bdev();
        while is_any_made && !waiting.is_empty() {
            is_any_made = false;
            for (step, fault) in std::mem::take(&mut waiting) {
                match call(&step) {
                    Ok(_) => is_any_made = true,
                    Err(again) if step.may_wait(&again) => waiting.push((step, fault)),
                    Err(fault) => return Err(step.failed(&fault)),
                }
            }
        }
    }
    waiting.first().map_or(Ok(()), |(step, fault)| Err(step.failed(fault)))
}

fn read_calls(elements: &[Json], place: &str, steps: &mut Vec<Step>) -> Result<(), String> {
    for (index, element) in elements.iter().enumerate() {
        let place = format!("{place}, call {}", index + 1);
        match element {
            // A batch.
            Json::Array(calls) => read_calls(calls, &place, steps)?,
            Json::Object(members) => {
                let Some(method) = element.member("method").and_then(Json::text) else {
                    return Err(format!("{place}: it has no method"));
                };
                if let Some((name, _)) = members.iter().find(|(name, _)| name != "method" && name != "params")
                {
                    return Err(format!("{place}: {method}: a call has method and params, not {name:?}"));
                }
                let params = element.member("params").cloned().unwrap_or(Json::Null);
                let mut step = Step { place, method: method.to_owned(), params, when: When::Always };
                step.when =
                    methods::check(method, step.params.clone()).map_err(|fault| step.failed(&fault))?;
                steps.push(step);
            }
            other => return Err(format!("{place}: a call is an object, not {}", other.kind())),
        }
    }
    Ok(())
}

/// Whether a secret stands somewhere in these parameters, as those of accounts do.
fn tells_secret(params: &Json) -> bool {
    match params {
        Json::Object(members) => members
            .iter()
            .any(|(name, value)| matches!(name.as_str(), "secret" | "msecret") || tells_secret(value)),
        Json::Array(elements) => elements.iter().any(tells_secret),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Plan::parse(text).unwrap_err()
    }

    /// A file with one subsystem.
    fn file(calls: &str) -> String {
        format!(
            r#"{{"subsystems":[{{"subsystem":"sock","config":null}},{{"subsystem":"bdev","config":[{calls}]}}]}}"#
        )
    }

    #[test]
    fn what_never_ends_is_no_file() {
        assert_eq!(Plan::read(Path::new("/dev/zero")).unwrap_err(), "/dev/zero: it has more than 256 MiB");
    }

    #[test]
    fn calls_are_found_in_order() {
        let text = file(
            r#"{"method":"bdev_wait_for_examine"},
               [{"method":"log_set_level","params":{"level":"INFO"}},{"method":"bdev_examine","params":{"name":"a"}}]"#,
        );
        let steps = Plan::parse(&text).unwrap().steps;
        let seen: Vec<_> =
            steps.iter().map(|step| (step.place.as_str(), step.method.as_str(), step.when)).collect();
        assert_eq!(
            seen,
            [
                ("subsystem bdev, call 1", "bdev_wait_for_examine", When::Runtime),
                ("subsystem bdev, call 2, call 1", "log_set_level", When::Always),
                ("subsystem bdev, call 2, call 2", "bdev_examine", When::Runtime),
            ]
        );
    }

    #[test]
    fn secrets_are_found_and_the_names_of_their_files_are_none() {
        let has = |text: &str| Plan::parse(&file(text)).unwrap().has_secrets();
        let account = |members: &str| {
            format!(
                r#"{{"method":"iscsi_create_auth_group","params":{{"tag":1,"secrets":[{{"user":"joe",{members}}}]}}}}"#
            )
        };
        assert!(has(&account(r#""secret":"correct-horse-12""#)));
        let mutual = r#""lunette_secret_file":"/a","muser":"me","msecret":"battery-staple-3""#;
        assert!(has(&account(mutual)));
        assert!(!has(&account(r#""lunette_secret_file":"/etc/lunette/secret""#)));
        assert!(!has(r#"{"method":"bdev_examine","params":{"name":"secret"}}"#));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (calls, expected) in [
            (r#"{"params":{}}"#, "subsystem bdev, call 1: it has no method"),
            ("7", "subsystem bdev, call 1: a call is an object, not a number"),
            (
                r#"{"method":"bdev_wait_for_examine"},{"method":"bdev_melloc_create"}"#,
                "subsystem bdev, call 2: bdev_melloc_create: Method not found",
            ),
            (
                r#"{"method":"bdev_examine","params":{"nmae":"a"}}"#,
                "subsystem bdev, call 1: bdev_examine: Invalid parameters: there is no parameter \"nmae\"; there are name",
            ),
            (
                r#"{"method":"bdev_examine","parms":{"name":"a"}}"#,
                "subsystem bdev, call 1: bdev_examine: a call has method and params, not \"parms\"",
            ),
        ] {
            assert_eq!(refused(&file(calls)), expected);
        }
        assert_eq!(refused("[]"), "it is not an object with an array \"subsystems\"");
        assert_eq!(
            refused(r#"{"subsystems":[{"config":{}}]}"#),
            "subsystem number 1: config is to be an array, not an object"
        );
    }
}
