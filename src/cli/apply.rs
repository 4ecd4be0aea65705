//! `lunette apply`: has a running daemon do what a file says, and nothing else.

use std::path::PathBuf;

use clap::Args;

use super::rpc;
use super::socket::{SocketArg, is_remote};
use super::{Failed, print};
use crate::rpc::config::Plan;
use crate::rpc::difference;
use crate::rpc::json::{Json, object};

/// `lunette apply`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette apply new.json --dry-run                   what would change
  lunette apply new.json                             all of it, or nothing
  lunette apply --merge more.json                    in addition to what is served")]
pub struct Apply {
    /// What the daemon is to serve: calls, as lunette_save_config writes them
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// Only say which calls it takes
    #[arg(long)]
    pub dry_run: bool,
    /// Add it to what is served: nothing that is there is changed or deleted
    #[arg(long)]
    pub merge: bool,
    /// The calls as JSON
    #[arg(long)]
    pub json: bool,
}

/// Applies it.
#[expect(clippy::print_stderr, reason = "a warning is the command's own voice")]
pub(super) fn apply(args: &Apply) -> Result<(), Failed> {
    let path = std::path::absolute(&args.file).map_err(Failed::failure)?;
    let socket = args.socket.path()?;
    // What is read here would not be what is applied.
    if is_remote(&socket) {
        return Err(Failed::usage(format!(
            "the daemon at {} reads files of its own machine: call 'lunette apply' there, or 'lunette rpc \
             lunette_apply_config' with the path of a file there",
            socket.display()
        )));
    }
    // With its place, before anybody is asked.
    let plan = Plan::read(&path).map_err(Failed::failure)?;
    if let Some(exposure) = plan.exposure(&path) {
        eprintln!("warning: {exposure}");
    }
    let params =
        object! { "filename": path.display().to_string(), "dry_run": args.dry_run, "merge": args.merge };
    let result = rpc::call(&socket, "lunette_apply_config", &params)?;
    let Json::Array(calls) = &result else {
        return Err(Failed::failure(format!("the answer is no list: {result}")));
    };
    let mut out = String::new();
    if args.json {
        result.write_pretty(&mut out);
        out.push('\n');
        return print(&out);
    }
    for call in calls {
        let method = call.member("method").and_then(Json::text).unwrap_or_default();
        out.push_str(&difference::line((method, call.member("params").unwrap_or(&Json::Null))));
        out.push('\n');
    }
    out.push_str(&match (calls.len(), args.dry_run) {
        (0, _) => "nothing differs\n".to_owned(),
        (count, true) => format!("{count} calls would do it\n"),
        (count, false) => format!("{count} calls made\n"),
    });
    print(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_this_machine_is_not_checked_for_another() {
        let socket = SocketArg { socket: Some(PathBuf::from("tcp://storage1:3270")) };
        let file = PathBuf::from("/nowhere/new.json");
        let refused = apply(&Apply { file, socket, dry_run: false, merge: false, json: false }).unwrap_err();
        assert!(format!("{refused:?}").contains("reads files of its own machine"), "{refused:?}");
    }
}
