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
         \"runtime\" after it.\n",
    );
    for method in methods::all() {
        let when = match method.when {
            When::Startup => "startup",
            When::Runtime => "runtime",
            When::Always => "startup and runtime",
        };
        page.push_str(&format!("\n## {}\n\n{} ({when})\n", method.name, method.about));
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rpc.md");
    let page = rpc_page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    for (there, made) in there.lines().zip(page.lines()) {
        assert_eq!(there, made, "docs/rpc.md: UPDATE_DOCS=1 cargo test --test it docs:: writes it");
    }
    assert_eq!(there, page);
}

#[test]
fn the_guide_names_every_option_of_serve() {
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
    let guide = read("docs/guide.md");
    let named: Vec<&str> = guide.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    for option in options.into_iter().filter(|option| *option != "--help") {
        assert!(named.contains(&option), "docs/guide.md does not name {option}");
    }
}
