//! Help, completions and manual pages: every command is in them.

use std::process::{Command, Stdio};

use super::daemon::{Lunette, ended, run};

/// The commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = run("", &["--help"]).ok();
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned));
    names.filter(|name| !name.is_empty() && name != "help").collect()
}

#[test]
fn help_is_for_people() {
    let commands = commands();
    assert!(commands.len() >= 18, "{commands:?}");
    for command in &commands {
        let help = run("", &[command, "--help"]).ok();
        assert!(help.contains(&format!("Usage: lunette {command}")), "{help}");
        let about = help.lines().next().unwrap();
        // Not what a part of its arguments says of itself.
        assert!(!about.starts_with("Which daemon") && about.len() > 10, "{command}: {about}");
    }
    let help = run("", &["--help"]).ok();
    assert!(
        help.contains("Exit status: 0 done, 1 it failed, 2 it was asked wrongly, 3 no daemon answers."),
        "{help}"
    );
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run("", &["completions", shell]).ok();
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
    }
    // Of these shells bash is the one that is everywhere.
    let mut check = Command::new("bash");
    check.arg("-n").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ended(check.spawn().unwrap(), &run("", &["completions", "bash"]).ok()).ok();
    assert_eq!(run("", &["completions", "perl"]).code, 2);
}

#[test]
fn every_command_has_a_manual_page() {
    let lunette = Lunette::start();
    let folder = lunette.path("man");
    run("", &["man", &folder.display().to_string()]).ok();
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("lunette.1").contains("Exit status"));
    for command in commands() {
        let page = page(&format!("lunette-{command}.1"));
        assert!(page.starts_with(".ie") || page.contains(".TH"), "{command}");
    }
    assert!(page("lunette-share.1").contains("lunette share disk.img"));
    let refused = run("", &["man", "/proc/no"]).failed(1);
    assert!(refused.starts_with("lunette: /proc/no: "), "{refused}");
}
