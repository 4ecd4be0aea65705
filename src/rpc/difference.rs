//! What two configurations differ in, call by call. Secrets are not shown.

use super::config::Plan;
use super::json::Json;

/// What is shown of a secret.
const HIDDEN: &str = "***";
/// The parameters that are secrets.
const SECRETS: &[&str] = &["secret", "msecret"];

/// A call that only one of them makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The new one makes it.
    pub is_new: bool,
    /// Its method and parameters, in one line.
    pub call: String,
}

/// What `new` no longer makes, in the order of `old`, then what it makes besides, in its own.
pub fn difference(old: &Plan, new: &Plan) -> Vec<Difference> {
    let (old, new): (Vec<_>, Vec<_>) = (old.calls().collect(), new.calls().collect());
    let mut kept = new.clone();
    let mut differences = Vec::new();
    for call in &old {
        match kept.iter().position(|other| other == call) {
            Some(index) => drop(kept.remove(index)),
            None => differences.push(Difference { is_new: false, call: line(*call) }),
        }
    }
    // What is left of the new one is what the old one had not; each as often as it is left.
    for call in &new {
        if let Some(index) = kept.iter().position(|other| other == call) {
            kept.remove(index);
            differences.push(Difference { is_new: true, call: line(*call) });
        }
    }
    differences
}

/// A call in one line, its secrets hidden.
pub fn line((method, params): (&str, &Json)) -> String {
    let mut params = params.clone();
    hide(&mut params);
    match params {
        Json::Null => method.to_owned(),
        params => format!("{method} {params}"),
    }
}

/// Puts stars in the place of secrets.
pub fn hide(json: &mut Json) {
    match json {
        Json::Array(elements) => elements.iter_mut().for_each(hide),
        Json::Object(members) => {
            for (name, value) in members {
                match value {
                    Json::String(text) if SECRETS.contains(&name.as_str()) && !text.is_empty() => {
                        HIDDEN.clone_into(text);
                    }
                    value => hide(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(calls: &str) -> Plan {
        Plan::parse(&format!(r#"{{"subsystems":[{{"subsystem":"bdev","config":[{calls}]}}]}}"#)).unwrap()
    }

    fn seen(old: &str, new: &str) -> Vec<(bool, String)> {
        let differences = difference(&plan(old), &plan(new)).into_iter();
        differences.map(|difference| (difference.is_new, difference.call)).collect()
    }

    const EXAMINE: &str = r#"{"method":"bdev_examine","params":{"name":"a"}}"#;
    const WAIT: &str = r#"{"method":"bdev_wait_for_examine"}"#;

    #[test]
    fn calls_are_compared_whole_and_counted() {
        assert_eq!(seen(WAIT, WAIT), []);
        assert_eq!(
            seen(&format!("{WAIT},{WAIT}"), &format!("{EXAMINE},{WAIT}")),
            [(false, "bdev_wait_for_examine".to_owned()), (true, r#"bdev_examine {"name":"a"}"#.to_owned())]
        );
        assert_eq!(seen(&format!("{WAIT},{EXAMINE}"), &format!("{EXAMINE},{WAIT}")), []);
    }

    #[test]
    fn secrets_are_not_shown_but_their_change_is() {
        let group = |secret: &str| {
            format!(
                r#"{{"method":"iscsi_create_auth_group","params":{{"tag":1,"secrets":[{{"user":"u","secret":"{secret}"}}]}}}}"#
            )
        };
        let shown = r#"iscsi_create_auth_group {"tag":1,"secrets":[{"user":"u","secret":"***"}]}"#;
        assert_eq!(
            seen(&group("correct-horse-12"), &group("battery-staple")),
            [(false, shown.to_owned()), (true, shown.to_owned())]
        );
    }
}
