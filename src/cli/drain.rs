//! `lunette drain`: nobody new logs in, who is logged in is asked to log out, and that is waited for.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;

use super::progress::Progress;
use super::rpc::call;
use super::socket::SocketArg;
use super::status::{list, member, pretty, sessions, short, text};
use super::{Failed, print};
use crate::rpc::json::{Json, object};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(200);
/// How often those who stay are asked again.
const ASK: Duration = Duration::from_secs(5);

/// `lunette drain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Who logs in is told that the target is not available now (0301h): initiators try again. That lasts until --undo or a new start;
it is not saved. Ends with 1 where somebody is still logged in when the time is over.

Examples:
  lunette drain disk                      the target iqn.2026-11.io.lunette:disk
  lunette drain --all --timeout 60 --force && systemctl restart lunette
  lunette drain --all --undo")]
pub struct Drain {
    /// A target by its name, or what is behind its colon
    #[arg(value_name = "TARGET", required_unless_present = "all", conflicts_with = "all")]
    pub target: Option<String>,
    /// All targets
    #[arg(long)]
    pub all: bool,
    /// How many seconds initiators have to log out
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub timeout: u32,
    /// End the sessions of those who have not when the time is over
    #[arg(long)]
    pub force: bool,
    /// Let initiators log in again
    #[arg(long, conflicts_with_all = ["force", "timeout"])]
    pub undo: bool,
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Drains.
pub(super) fn drain(args: &Drain) -> Result<(), Failed> {
    let socket = args.socket.path()?;
    let targets = targets(&socket, args.target.as_deref())?;
    // Counted first: some are gone as soon as they are asked.
    let at_first = logged_in(&socket, &targets)?.len();
    set(&socket, &targets, !args.undo)?;
    let names: Json = targets.iter().collect();
    if args.undo {
        return print(&match args.json {
            true => pretty(&object! { "targets": names, "draining": false }),
            false => {
                targets.iter().map(|target| format!("{target}: initiators can log in again\n")).collect()
            }
        });
    }
    let until = Instant::now() + Duration::from_secs(args.timeout.into());
    let mut left = wait(&socket, &targets, at_first, until)?;
    let stayed = left.clone();
    if args.force && !left.is_empty() {
        for session in &left {
            // Who has gone meanwhile is gone.
            let _ = call(&socket, "lunette_end_session", &object! { "session": member(session, "session") });
        }
        left = wait(&socket, &targets, at_first, Instant::now() + ASK)?;
    }
    let out = match args.json {
        true => pretty(&object! {
            "targets": names,
            "draining": true,
            "sessions": at_first as u64,
            "ended": (stayed.len() - left.len().min(stayed.len())) as u64,
            "left": left.clone(),
        }),
        false => said(&targets, at_first, &stayed, left.len()),
    };
    print(&out)?;
    if left.is_empty() { Ok(()) } else { Err(Failed::failure(remaining(&left))) }
}

fn said(targets: &[String], at_first: usize, stayed: &[Json], left: usize) -> String {
    let mut out =
        format!("{}: no new logins ('lunette drain --undo' lets them in again)\n", targets.join(", "));
    out.push_str(&format!("{} of {at_first} sessions logged out\n", at_first.saturating_sub(stayed.len())));
    if left < stayed.len() {
        out.push_str(&format!("{} were ended\n", stayed.len() - left));
    }
    out
}

fn remaining(left: &[Json]) -> String {
    let who: Vec<String> = left
        .iter()
        .map(|session| format!("{} ({})", text(session, "initiator_name"), text(session, "initiator_addr")))
        .collect();
    format!(
        "still logged in: {}; --force ends their sessions, a larger --timeout waits longer",
        who.join(", ")
    )
}

/// The targets that are meant, by their whole names.
fn targets(socket: &Path, wanted: Option<&str>) -> Result<Vec<String>, Failed> {
    let names = list(socket, "iscsi_get_target_nodes")?.iter().map(|target| text(target, "name")).collect();
    chosen(names, wanted)
}

fn chosen(names: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>, Failed> {
    let Some(wanted) = wanted else { return Ok(names) };
    if names.iter().any(|name| name == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    let found: Vec<String> = names.into_iter().filter(|name| short(name) == wanted).collect();
    match found.len() {
        1 => Ok(found),
        0 => Err(Failed::failure(format!("there is no target {wanted}; 'lunette status' lists them"))),
        _ => Err(Failed::failure(format!("{wanted}: say which: {}", found.join(", ")))),
    }
}

/// Keeps initiators out of targets and asks them to log out, or lets them in again.
fn set(socket: &Path, targets: &[String], is_draining: bool) -> Result<(), Failed> {
    for target in targets {
        call(socket, "lunette_target_node_drain", &object! { "name": target, "enable": is_draining })?;
    }
    Ok(())
}

/// The sessions at targets.
fn logged_in(socket: &Path, targets: &[String]) -> Result<Vec<Json>, Failed> {
    let mut sessions = sessions(&list(socket, "iscsi_get_connections")?);
    sessions.retain(|session| targets.contains(&text(session, "target_name")));
    Ok(sessions)
}

/// Waits until nobody is logged in, of so many at first. Gives back the sessions that are left when the time is over.
fn wait(socket: &Path, targets: &[String], at_first: usize, until: Instant) -> Result<Vec<Json>, Failed> {
    let mut progress = Progress::begin();
    let mut ask_at = Instant::now() + ASK;
    loop {
        let left = logged_in(socket, targets)?;
        let now = Instant::now();
        if left.is_empty() || now >= until {
            return Ok(left);
        }
        let seconds = until.saturating_duration_since(now).as_secs();
        let gone = at_first.saturating_sub(left.len());
        progress.show(gone as u64, at_first as u64, &format!("sessions logged out, {seconds} s left"));
        if now >= ask_at {
            // Those, too, whose login was under way.
            set(socket, targets, true)?;
            ask_at = now + ASK;
        }
        std::thread::sleep(LOOK.min(until.saturating_duration_since(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_named_whole_or_short() {
        let names = || ["iqn.a:x", "iqn.b:x", "iqn.a:y"].map(str::to_owned).to_vec();
        assert_eq!(chosen(names(), None).unwrap(), names());
        assert_eq!(chosen(names(), Some("iqn.b:x")).unwrap(), ["iqn.b:x"]);
        assert_eq!(chosen(names(), Some("y")).unwrap(), ["iqn.a:y"]);
        assert!(
            matches!(chosen(names(), Some("x")), Err(Failed::Failure(text)) if text == "x: say which: iqn.a:x, iqn.b:x")
        );
        assert!(matches!(chosen(names(), Some("z")), Err(Failed::Failure(_))));
    }
}
