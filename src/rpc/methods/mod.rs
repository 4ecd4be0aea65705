//! The table of everything that can be called. A method stands in it once, with its parameters; calling it, listing it
//! and its documentation come from there.

pub(super) mod auth;
mod bdev;
mod connection;
mod file;
mod framework;
mod histogram;
pub(super) mod initiator;
mod iostat;
pub(super) mod isns;
mod log;
mod lunette;
mod medium;
mod memory;
pub(super) mod mirror;
mod notify;
pub(super) mod nvme;
pub(super) mod options;
mod path;
mod pci;
pub(super) mod portal;
pub(super) mod qos;
mod raid;
pub(super) mod recorder;
mod schema;
mod sg;
mod spdk;
mod split;
pub(super) mod target;
mod threads;
pub(super) mod times;
mod trace;
pub(super) mod unit;
mod watch;
mod wrapper;

use super::context::{Context, Stage};
use super::fault::Fault;
use super::json::Json;
use super::params::{self, Field};
use super::types::Ignored;
use crate::control::error::ChangeError;

/// How a call ends.
pub(super) type Outcome = Result<Json, Fault>;

/// When a method can be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Before `framework_start_init`.
    Startup,
    /// After it.
    Runtime,
    /// At any time.
    Always,
}

impl When {
    fn allows(self, stage: Stage) -> bool {
        match self {
            When::Startup => stage == Stage::Startup,
            When::Runtime => stage == Stage::Runtime,
            When::Always => true,
        }
    }
}

/// Methods that only tell, though their names do not say so.
const READING: &[&str] = &["lunette_subscribe"];
/// Parameters of methods that only tell which have them do more, but for the value that is named.
const DOING_MORE: &[(&str, &str, &str)] = &[("bdev_get_iostat", "reset_mode", "none")];
/// Methods that tell secrets among the rest: what a configuration is saved from.
const TELLING_SECRETS: &[&str] = &["framework_get_config", "lunette_get_config"];

/// A method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// When it can be called.
    pub when: When,
    /// Its parameters.
    pub fields: &'static [Field],
    /// Whether other parameters are overlooked.
    pub is_open: bool,
    /// What it does.
    pub about: &'static str,
    /// Reads the parameters and says what is wrong with them.
    check: fn(Json) -> Result<(), Fault>,
    run: fn(&Context, Json) -> Outcome,
}

impl Method {
    /// The JSON schema of its parameters.
    pub fn schema(&self) -> Json {
        params::schema(self.fields, self.is_open)
    }

    /// Whether a parameter is taken and without effect: nothing keeps it.
    pub(super) fn ignores(&self, name: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|field| field.name == name && (field.kind)() == <Ignored as params::Take>::kind())
    }

    /// It only tells. Names say so: any other may have changed what a configuration holds.
    pub fn is_reading(&self) -> bool {
        self.name.split('_').any(|word| word == "get") || READING.contains(&self.name)
    }

    /// It may be called where a socket is for reading only: it changes nothing, neither here nor in files, and tells no secret.
    /// Telling events is reading; writing down what was recorded is not.
    pub fn is_for_readers(&self) -> bool {
        self.is_reading() && !TELLING_SECRETS.contains(&self.name)
    }

    /// The parameter by which a call of it is not for reading only, though it [`Method::is_for_readers`].
    pub(super) fn does_more(&self, params: &Json) -> Option<&'static str> {
        let is_given = |name: &str, harmless: &str| {
            params.member(name).is_some_and(|value| *value != Json::Null && value.text() != Some(harmless))
        };
        let mut doing = DOING_MORE.iter().filter(|(method, ..)| *method == self.name);
        doing.find(|(_, name, harmless)| is_given(name, harmless)).map(|(_, name, _)| *name)
    }
}

/// A row: `name, when, type of the parameters, handler, what it does`.
macro_rules! method {
    ($name:literal, $when:ident, $params:ty, $handler:path, $about:literal) => {
        $crate::rpc::methods::Method {
            name: $name,
            when: $crate::rpc::methods::When::$when,
            fields: <$params as $crate::rpc::params::Params>::FIELDS,
            is_open: <$params as $crate::rpc::params::Params>::IS_OPEN,
            about: $about,
            check: |params| $crate::rpc::params::read::<$params>(params).map(drop),
            run: |context, params| $handler(context, $crate::rpc::params::read::<$params>(params)?),
        }
    };
}
use method;

/// The families, each with its rows.
const FAMILIES: &[&[Method]] = &[
    framework::METHODS,
    schema::METHODS,
    threads::METHODS,
    notify::METHODS,
    log::METHODS,
    trace::METHODS,
    bdev::METHODS,
    iostat::METHODS,
    times::METHODS,
    memory::METHODS,
    file::METHODS,
    nvme::METHODS,
    pci::METHODS,
    medium::METHODS,
    sg::METHODS,
    wrapper::METHODS,
    split::METHODS,
    raid::METHODS,
    options::METHODS,
    portal::METHODS,
    initiator::METHODS,
    auth::METHODS,
    target::METHODS,
    path::METHODS,
    unit::METHODS,
    qos::METHODS,
    histogram::METHODS,
    connection::METHODS,
    watch::METHODS,
    recorder::METHODS,
    isns::METHODS,
    lunette::METHODS,
    spdk::METHODS,
    spdk::KNOBS,
];

/// Every method.
pub fn all() -> impl Iterator<Item = &'static Method> {
    FAMILIES.iter().copied().flatten()
}

/// Calls a method.
///
/// # Errors
/// There is no such method, not at this stage, or it refuses.
pub fn call(context: &Context, name: &str, params: Json) -> Result<Json, Fault> {
    let method = find(name)?;
    if !method.when.allows(context.stage()) {
        return Err(Fault::new(
            Fault::INVALID_STATE,
            match method.when {
                When::Startup => {
                    "Method may only be called before framework is initialized. Use --wait-for-rpc command line \
                     parameter and then issue this RPC before the framework_start_init RPC."
                }
                _ => {
                    "Method may only be called after framework is initialized using framework_start_init RPC."
                }
            },
        ));
    }
    (method.run)(context, params)
}

/// Says whether a call could be made, as far as its name and parameters tell; gives back when.
///
/// # Errors
/// There is no such method, or it has no such parameters.
pub fn check(name: &str, params: Json) -> Result<When, Fault> {
    let method = find(name)?;
    (method.check)(params)?;
    Ok(method.when)
}

/// Whether a call of this name is taken and without effect.
pub(super) fn is_knob(name: &str) -> bool {
    spdk::KNOBS.iter().any(|knob| knob.name == name)
}

/// The method of this name.
///
/// # Errors
/// There is none.
pub fn find(name: &str) -> Result<&'static Method, Fault> {
    all()
        .find(|method| method.name == name)
        .ok_or_else(|| Fault::new(Fault::METHOD_NOT_FOUND, "Method not found"))
}

/// What SPDK answers where the iSCSI side cannot be changed: always the same code.
fn iscsi_fault(error: &ChangeError) -> Fault {
    match error {
        ChangeError::Stopping => Fault::stopped(),
        error => Fault::params(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_apart_is_there() {
        for name in READING.iter().chain(TELLING_SECRETS) {
            assert!(find(name).is_ok_and(Method::is_reading), "{name}");
        }
    }

    #[test]
    fn each_method_stands_there_once_and_is_documented() {
        let mut names: Vec<_> = all().map(|method| method.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for method in all() {
            assert!(method.about.ends_with('.'), "{}", method.name);
            for field in method.fields {
                assert!(field.doc.ends_with('.'), "{}: {}", method.name, field.name);
            }
        }
    }
}
