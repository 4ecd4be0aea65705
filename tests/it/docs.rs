//! The documents say what the code does: nothing is served, negotiated or offered that they do not list.

use std::path::Path;

use lunette::iscsi::keys::KEYS;
use lunette::scsi::table::Table;
use lunette::scsi::view::DeviceKind;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The table rows under a heading line, up to the next heading.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let section = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    section.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| ")).skip(1).collect()
}

#[test]
fn compliance_lists_every_command_and_no_other() {
    for (heading, kind) in [("## SCSI", DeviceKind::Disk), ("## CD-ROM", DeviceKind::CdRom)] {
        lists_every_command(heading, kind);
    }
}

fn lists_every_command(heading: &str, kind: DeviceKind) {
    let text = read("docs/compliance.md");
    let expected: Vec<String> = Table::of(kind)
        .rows()
        .iter()
        .map(|row| {
            let action = row.action.map(|action| format!("/{action:02X}h")).unwrap_or_default();
            format!("| {:02X}h{action} | {} |", row.opcode, row.name)
        })
        .collect();
    let listed = rows(&text, heading);
    assert_eq!(listed.len(), expected.len());
    for (line, expected) in listed.iter().zip(&expected) {
        assert!(line.starts_with(expected.as_str()), "{line}\nshould begin with {expected}");
    }
}

#[test]
fn compliance_lists_every_key_and_no_other() {
    let text = read("docs/compliance.md");
    let listed = rows(&text, "### Keys");
    assert_eq!(listed.len(), KEYS.len());
    for (line, key) in listed.iter().zip(KEYS) {
        assert!(line.starts_with(&format!("| `{}` |", key.name)), "{line}\nshould be about {}", key.name);
    }
}

/// The page that the table of methods makes.
fn rpc_page() -> String {
    use lunette::rpc::methods::{self, When};
    use lunette::rpc::params::Need;
    let mut page = String::from(
        "# JSON-RPC calls\n\nMade from the table in `src/rpc/methods`; `UPDATE_DOCS=1 cargo test --test it docs::` writes it anew.\n\
         Parameters that are not bold may be left out. \"Startup\" is before `framework_start_init` (with `--wait-for-rpc`, and in files),\n\
         \"runtime\" after it. Calls marked \"read-only sockets too\" can be made at sockets of `--rpc-also PATH,read-only`.\n",
    );
    for method in methods::all() {
        let when = match method.when {
            When::Startup => "startup",
            When::Runtime => "runtime",
            When::Always => "startup and runtime",
        };
        let readers = if method.is_for_readers() { "; read-only sockets too" } else { "" };
        page.push_str(&format!("\n## {}\n\n{} ({when}{readers})\n", method.name, method.about));
        if !method.fields.is_empty() {
            page.push_str("\n| parameter | type | |\n|---|---|---|\n");
        }
        for field in method.fields {
            let name = match field.need {
                Need::Required => format!("**{}**", field.name),
                _ => field.name.to_owned(),
            };
            let default = match field.need {
                Need::Default(value) if !value.contains('(') => format!("; {value} unless given"),
                _ => String::new(),
            };
            page.push_str(&format!("| {name} | {}{default} |{} |\n", (field.kind)(), field.doc));
        }
    }
    page
}

#[test]
fn the_page_of_calls_is_what_the_table_makes() {
    is_made("docs/rpc.md", &rpc_page());
}

#[test]
fn the_page_of_metrics_is_what_the_table_makes() {
    is_made("docs/metrics.md", &lunette::metrics::families::page());
}

/// Every metric that an expression of the dashboard names exists.
#[test]
fn the_dashboard_names_metrics_that_there_are() {
    use lunette::metrics::families::{FAMILIES, Kind};
    let text = read("docs/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names: Vec<&str> =
        text.split(|c: char| !is_of_name(c)).filter(|word| word.starts_with("lunette_")).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let is_it = |family: &lunette::metrics::families::Family| match family.kind {
            Kind::Histogram => {
                ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(family.name))
            }
            Kind::Counter | Kind::Gauge => name == family.name,
        };
        assert!(FAMILIES.iter().any(is_it), "docs/grafana.json: there is no {name}");
    }
}

/// A page is what the code makes, which writes it where that is asked for.
fn is_made(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    for (there, made) in there.lines().zip(page.lines()) {
        assert_eq!(there, made, "{name}: UPDATE_DOCS=1 cargo test --test it docs:: writes it");
    }
    assert_eq!(there, page);
}

/// The schema that clients are given has the parameters that the page has, and no others.
#[test]
fn the_schema_and_the_page_come_from_one_table() {
    use lunette::rpc::json::Json;
    use lunette::rpc::methods;
    let page = read("docs/rpc.md");
    for method in methods::all() {
        let heading = format!("## {}", method.name);
        let section = page.lines().skip_while(|line| *line != heading).skip(1);
        let rows = section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
        let listed: Vec<&str> = rows.skip(1).filter_map(|row| row.split(" | ").next()).collect();
        let schema = method.schema();
        let Some(Json::Object(properties)) = schema.member("properties") else { panic!("{}", method.name) };
        let required = match schema.member("required") {
            Some(Json::Array(names)) => names.iter().filter_map(Json::text).collect::<Vec<_>>(),
            _ => panic!("{}", method.name),
        };
        let told: Vec<String> = properties
            .iter()
            .map(|(name, _)| {
                if required.contains(&name.as_str()) { format!("| **{name}**") } else { format!("| {name}") }
            })
            .collect();
        assert_eq!(listed, told, "{}", method.name);
        for (name, property) in properties {
            assert!(
                property.member("description").and_then(Json::text).is_some_and(|text| !text.is_empty()),
                "{name}"
            );
        }
    }
}

#[test]
fn the_book_names_every_option_of_serve() {
    let help =
        std::process::Command::new(env!("CARGO_BIN_EXE_lunette")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let is_option = |word: &&str| word.starts_with("--") && word.len() > 2;
    let mut options: Vec<&str> = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split([' ', ',', '=']).find(is_option))
        .collect();
    options.sort_unstable();
    options.dedup();
    assert!(options.len() > 15, "{options:?}");
    let table = read("docs/options.md");
    let named: Vec<&str> = table.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    for option in options.into_iter().filter(|option| *option != "--help") {
        assert!(named.contains(&option), "docs/options.md does not name {option}");
    }
}
