//! What the tree promises about itself (ARCHITECTURE.md, the invariants), read from its files. Each check is a
//! function over one file, so that the tests at the end can show it bad ones; what needs the compiler is clippy's.

mod licence;
mod rust;

use std::fs;
use std::path::Path;

use rust::{code_only, contains, count, paths, production, test_modules};

/// Folders that must be there. A folder that a check names and that is not listed here may be missing.
const REQUIRED: &[&str] = &[
    "src",
    "initiator",
    "tests",
    "scripts",
    "src/reactor",
    "src/iscsi",
    "src/scsi",
    "src/buf",
    "src/net",
    "src/bdev",
];
/// The protocol layers: they see bytes and views only.
const SANS_IO: &[&str] = &["src/iscsi", "src/scsi"];
/// Where reactors run.
const DATA_PATH: &[&str] = &["src/reactor", "src/iscsi", "src/scsi", "src/buf", "src/net", "src/bdev"];
/// All Rust code.
const RUST: &[&str] = &["src", "initiator", "tests", "fuzz", "bench", "spdk-sys"];
/// Never looked into, folder or file: built, or not ours.
const SKIPPED: &[&str] = &[".git", "target", "corpus", "artifacts"];

/// The stricter lints of the data path: see clippy.toml.
const DENY: &str = "#![cfg_attr(not(test), deny(clippy::disallowed_types, clippy::disallowed_methods, \
    clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss, clippy::print_stdout, \
    clippy::too_many_lines))]";
const LINES_MAX: usize = 600;

/// A text file, its path relative to the root of the tree.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// A file that holds nothing but tests.
    fn is_test(&self) -> bool {
        let mut parts = self.path.rsplit('/');
        parts.next() == Some("tests.rs") || parts.any(|part| part == "tests")
    }

    /// Its code without comments, strings and tests.
    fn production(&self) -> String {
        if self.is_test() { String::new() } else { production(&self.text) }
    }

    /// The code of its tests.
    fn tests(&self) -> String {
        let code = code_only(&self.text);
        if self.is_test() {
            return code;
        }
        test_modules(&code).into_iter().map(|range| &code[range]).collect()
    }
}

/// Every text file below a folder whose name ends so, in order.
fn sources(dir: &str, endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(dir)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.expect("a readable folder");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type().expect("a file type");
            if SKIPPED.contains(&&*name) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                // Whatever is no text cannot be checked as one.
                let Ok(text) = fs::read_to_string(&path) else { continue };
                let relative = path.strip_prefix(root).expect("a path below the root");
                found.push(Source { path: relative.to_string_lossy().into_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Fails with everything that `check` finds in the folders, or when a required one holds no such file.
fn enforce(dirs: &[&str], endings: &[&str], check: fn(&Source) -> Vec<String>) {
    let mut problems = Vec::new();
    for dir in dirs {
        let files = sources(dir, endings);
        let required = REQUIRED.iter().any(|path| path == dir || dir.is_empty());
        assert!(!required || !files.is_empty(), "nothing to check in {dir:?}");
        for file in &files {
            problems.extend(check(file).into_iter().map(|problem| format!("{}: {problem}", file.path)));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn layers(file: &Source) -> Vec<String> {
    let outside = |path: &String| {
        let plain = path.trim_start_matches("dyn ");
        let relative = plain.trim_start_matches("super::");
        let inside_crate = plain.strip_prefix("crate::").or((relative != plain).then_some(relative));
        let module = inside_crate.map(|rest| rest.split("::").next().unwrap_or_default());
        matches!(module, Some("net" | "reactor" | "*"))
            || ["std::net", "std::fs", "std::time", "std::thread"]
                .iter()
                .any(|banned| plain == *banned || plain.starts_with(&format!("{banned}::")))
            || ["bdev::Channel", "bdev::*"].iter().any(|banned| plain.ends_with(banned))
            || (path.starts_with("dyn ") && plain.rsplit("::").next() == Some("Channel"))
    };
    paths(&file.production()).into_iter().filter(outside).map(|path| format!("names {path}")).collect()
}

fn denies(file: &Source) -> Vec<String> {
    if !DATA_PATH.iter().any(|dir| file.path == format!("{dir}/mod.rs")) {
        return Vec::new();
    }
    let plain = |text: &str| text.split_whitespace().collect::<String>().replace(",)", ")");
    if plain(&code_only(&file.text)).starts_with(&plain(DENY)) {
        return Vec::new();
    }
    vec!["the first line after the module's description is not the one that clippy.toml asks for".to_owned()]
}

fn logs(file: &Source) -> Vec<String> {
    let log = |path: &String| path == "tracing" || path.starts_with("tracing::");
    paths(&file.production()).into_iter().filter(log).map(|path| format!("names {path}")).collect()
}

fn length(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let tests: usize = test_modules(&code).into_iter().map(|range| code[range].lines().count()).sum();
    let lines = code.lines().count() - tests;
    if lines > LINES_MAX { vec![format!("{lines} lines without its tests")] } else { Vec::new() }
}

fn islands(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let uses = count(&code, "unsafe {") + count(&code, "unsafe impl");
    let proofs = file.text.matches("SAFETY:").count();
    let mut problems = Vec::new();
    if uses > proofs {
        problems.push(format!("{uses} uses of unsafe, {proofs} proofs"));
    }
    if uses > 0 && !contains(&code, "[expect(unsafe_code") {
        problems.push("unsafe outside of an island that expects it".to_owned());
    }
    problems
}

fn attributes(file: &Source) -> Vec<String> {
    let code = code_only(&file.text);
    let banned = ["#[allow(", "#![allow(", "#[ignore", "todo!(", "unimplemented!("];
    banned.iter().filter(|sought| contains(&code, sought)).map(|sought| format!("has {sought}")).collect()
}

fn sleeps(file: &Source) -> Vec<String> {
    let sleep = |path: &String| path.ends_with("thread::sleep");
    paths(&file.tests()).into_iter().filter(sleep).map(|path| format!("names {path}")).collect()
}

fn leftovers(file: &Source) -> Vec<String> {
    // Taken apart, or this file would find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let words: Vec<&str> = file.text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    marks.iter().filter(|mark| words.contains(mark)).map(|mark| format!("says {mark}")).collect()
}

fn places(file: &Source) -> Vec<String> {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".com"),
        concat!("npmjs", ".org"),
        concat!("proxy.golang", ".org"),
        concat!("deb.debian", ".org"),
        concat!("docker", ".io"),
        concat!("ghcr", ".io"),
        concat!("quay", ".io"),
    ];
    if file.path.ends_with("Cargo.lock") {
        return Vec::new(); // cargo writes its registry there
    }
    banned.iter().filter(|place| file.text.contains(*place)).map(|place| format!("names {place}")).collect()
}

#[test]
fn protocol_layers_name_nothing_outside() {
    enforce(SANS_IO, &[".rs"], layers);
}

#[test]
fn data_path_has_the_strict_lints() {
    enforce(DATA_PATH, &["mod.rs"], denies);
}

#[test]
fn data_path_does_not_log() {
    enforce(DATA_PATH, &[".rs"], logs);
}

#[test]
fn files_are_short() {
    enforce(RUST, &[".rs"], length);
}

#[test]
fn unsafe_is_proved_and_on_islands() {
    enforce(RUST, &[".rs"], islands);
}

#[test]
fn no_bare_allow_and_no_ignored_test() {
    enforce(RUST, &[".rs"], attributes);
}

#[test]
fn tests_do_not_sleep() {
    enforce(RUST, &[".rs"], sleeps);
}

#[test]
fn nothing_is_left_for_later() {
    enforce(&[""], &[".rs", ".sh", ".py", ".toml"], leftovers);
}

#[test]
fn no_place_is_named() {
    enforce(&[""], &[""], places);
}

/// Whether the check finds something in a file of that path and text.
fn finds(check: fn(&Source) -> Vec<String>, path: &str, text: &str) -> bool {
    !check(&Source { path: path.to_owned(), text: text.to_owned() }).is_empty()
}

#[test]
fn layers_can_fail() {
    let path = "src/iscsi/conn.rs";
    for bad in [
        "use crate::net::Sock;",
        "use crate::{iscsi, reactor};",
        "use crate::*;",
        "fn f() { super::super::net::open() }",
        "use std::{fmt, time::{self, Duration}};",
        "fn f() { std::fs::read(x) }",
        "use crate::bdev::{Io, Channel};",
        "use crate::bdev::*;",
        "fn f(c: &mut dyn Channel) {}",
    ] {
        assert!(finds(layers, path, bad), "{bad}");
    }
    for good in [
        "use crate::bdev::Io; // not crate::net",
        "use crate::time::Tick;",
        "let s = \"std::fs\";",
        "#[cfg(test)]\nmod tests { use std::fs; }",
        "use std::io::IoSlice; use crate::network;",
    ] {
        assert!(!finds(layers, path, good), "{good}");
    }
    assert!(!finds(layers, "src/iscsi/conn/tests.rs", "use std::fs;"));
}

#[test]
fn denies_can_fail() {
    let path = "src/net/mod.rs";
    assert!(!finds(denies, path, &format!("//! Net.\n\n{DENY}\nmod a;\n")));
    assert!(!finds(denies, path, &DENY.replace("))]", "),\n)]").replace('(', "(\n    ")));
    assert!(!finds(denies, "src/net/sys.rs", ""));
    assert!(finds(denies, path, "//! Net.\nmod a;\n"));
    assert!(finds(denies, path, &format!("// {DENY}\n")));
    assert!(finds(denies, path, &DENY.replace("clippy::print_stdout, ", "")));
    assert!(finds(denies, path, &format!("mod a;\n{DENY}\n")));
}

#[test]
fn text_checks_can_fail() {
    assert!(finds(logs, "src/net/a.rs", "fn f() { tracing::warn!(x) }"));
    assert!(finds(logs, "src/net/a.rs", "use tracing::{info, warn};"));
    assert!(!finds(logs, "src/net/a.rs", "// tracing::warn!\nuse tracing_like::x;"));

    assert!(finds(length, "src/a.rs", &"x\n".repeat(LINES_MAX + 1)));
    assert!(!finds(length, "src/a.rs", &"x\n".repeat(LINES_MAX)));
    let long_tests = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(LINES_MAX));
    assert!(!finds(length, "src/a.rs", &long_tests));

    let island = "#![expect(unsafe_code, reason = \"mmap\")]\n";
    assert!(!finds(islands, "src/a.rs", &format!("{island}// SAFETY: p is valid\nunsafe {{ *p }}")));
    assert!(finds(islands, "src/a.rs", &format!("{island}unsafe {{ *p }}")));
    assert!(finds(islands, "src/a.rs", "// SAFETY: p is valid\nunsafe { *p }"));
    assert!(finds(
        islands,
        "src/a.rs",
        &format!("{island}// SAFETY: a\nunsafe impl A for B {{}} unsafe {{ *p }}")
    ));
    assert!(!finds(islands, "src/a.rs", "// an unsafe { block } in words"));

    for bad in ["#[allow(dead_code)]", "#![allow(x)]", "#[ignore]", "#[ignore = \"slow\"]", "todo!()"] {
        assert!(finds(attributes, "src/a.rs", bad), "{bad}");
    }
    assert!(!finds(attributes, "src/a.rs", "#[expect(dead_code, reason = \"#[allow(x)]\")]"));

    assert!(finds(sleeps, "tests/it/a.rs", "use std::thread::{self, sleep};"));
    assert!(finds(sleeps, "src/a.rs", "#[cfg(test)]\nmod tests { fn f() { std::thread::sleep(x) } }"));
    assert!(finds(sleeps, "src/a/tests.rs", "fn f() { thread::sleep(x) }"));
    assert!(!finds(sleeps, "src/a.rs", "fn f() { thread::sleep(x) }"));

    assert!(finds(leftovers, "src/a.rs", concat!("// TO", "DO: more")));
    assert!(!finds(leftovers, "src/a.rs", concat!("let FIX", "MES = 1;")));

    assert!(finds(places, "README.md", concat!("see /wo", "rk/x")));
    assert!(finds(places, "README.md", concat!("from crates", ".io")));
    assert!(!finds(places, "Cargo.lock", concat!("from crates", ".io")));
}

#[test]
#[should_panic(expected = "nothing to check")]
fn an_empty_required_folder_fails() {
    enforce(&["src"], &[".no-such-ending"], length);
}
