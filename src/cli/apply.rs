//! `lunette apply`: has a running daemon do what a file says, and nothing else.

use std::path::PathBuf;

use clap::Args;

use super::rpc::{self, SOCKET};
use super::{Failed, print};
use crate::rpc::config::Plan;
use crate::rpc::difference;
use crate::rpc::json::{Json, object};

/// `lunette apply`.
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// What the daemon is to serve: calls, as lunette_save_config writes them
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The daemon's socket
    #[arg(short, long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
    /// Only say which calls it takes
    #[arg(long)]
    pub dry_run: bool,
}

/// Applies it.
pub(super) fn apply(args: &Apply) -> Result<(), Failed> {
    let path = std::path::absolute(&args.file).map_err(Failed::failure)?;
    // With its place, before anybody is asked.
    Plan::read(&path).map_err(Failed::failure)?;
    let params = object! { "filename": path.display().to_string(), "dry_run": args.dry_run };
    let result = rpc::call(&args.socket, "lunette_apply_config", &params)?;
    let Json::Array(calls) = &result else {
        return Err(Failed::failure(format!("the answer is no list: {result}")));
    };
    let mut out = String::new();
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
