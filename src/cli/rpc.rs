//! `lunette rpc`: one call to a daemon, its answer printed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use clap::Args;

use super::socket::SocketArg;
use super::{Failed, print};
use crate::rpc::envelope::Stream;
use crate::rpc::json::Json;

/// Where SPDK's clients look.
pub const SOCKET: &str = "/var/tmp/spdk.sock";

/// `lunette rpc`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette rpc rpc_get_methods
  lunette rpc bdev_get_iostat '{\"name\":\"disk.img\"}'
  lunette rpc lunette_get_config > config.json")]
pub struct Rpc {
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// What to call; rpc_get_methods lists what there is
    pub method: String,
    /// Its parameters, a JSON object; - reads them from standard input
    #[arg(value_name = "JSON")]
    pub params: Option<String>,
}

/// Calls and prints.
pub(super) fn rpc(args: &Rpc) -> Result<(), Failed> {
    let params = match args.params.as_deref() {
        None => Json::Null,
        Some("-") => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failed::failure(format!("standard input: {error}")))?;
            params(&text)?
        }
        Some(text) => params(text)?,
    };
    let mut out = String::new();
    match call(&args.socket.path()?, &args.method, &params)? {
        // A name is wanted as it is, by scripts.
        Json::String(text) => out.push_str(&text),
        result => result.write_pretty(&mut out),
    }
    out.push('\n');
    print(&out)
}

/// Calls and gives back the result.
pub(super) fn call(socket: &Path, method: &str, params: &Json) -> Result<Json, Failed> {
    let mut request = String::from(r#"{"jsonrpc":"2.0","id":1,"method":"#);
    Json::from(method).write(&mut request);
    if *params != Json::Null {
        request.push_str(",\"params\":");
        params.write(&mut request);
    }
    request.push('}');
    let answer = exchange(socket, &request)?;
    let answer = Json::parse(&answer).map_err(|error| Failed::failure(format!("the answer: {error}")))?;
    if let Some(error) = answer.member("error") {
        return Err(Failed::failure(refusal(method, error)));
    }
    match answer.member("result") {
        Some(result) => Ok(result.clone()),
        None => Err(Failed::failure(format!("the answer has no result: {answer}"))),
    }
}

fn params(text: &str) -> Result<Json, Failed> {
    let help = r#"the parameters are to be a JSON object, as '{"name":"disk0"}'"#;
    match Json::parse(text) {
        Ok(params @ (Json::Object(_) | Json::Array(_))) => Ok(params),
        Ok(other) => Err(Failed::usage(format!("{help}, not {}", other.kind()))),
        Err(error) => Err(Failed::usage(format!("{help}: {error}"))),
    }
}

/// Sends a request and takes its answer.
fn exchange(socket: &Path, request: &str) -> Result<String, Failed> {
    #[cfg(feature = "rpc-tls")]
    if let Some(place) = super::socket::place(socket) {
        return converse(&mut super::tcp::connect(place)?, socket, request);
    }
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    converse(&mut stream, socket, request)
}

fn converse(stream: &mut (impl Read + Write), socket: &Path, request: &str) -> Result<String, Failed> {
    let failed = |error: io::Error| Failed::failure(format!("{}: {error}", socket.display()));
    let ended = || {
        Failed::failure(format!("{}: the daemon ended the connection without an answer", socket.display()))
    };
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).map_err(failed)?;
    let (mut values, mut chunk) = (Stream::answers(), vec![0; 64 * 1024]);
    loop {
        if let Some(answer) = values.next_value().map_err(|fault| Failed::failure(fault.text()))? {
            return Ok(answer);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ended()),
            Ok(bytes) => values.received(&chunk[..bytes]),
            // Without a goodbye.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ended()),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Failed {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "; no daemon has made this socket: start one with 'lunette serve', or name another with -s"
        }
        io::ErrorKind::ConnectionRefused => "; the daemon that made this socket is gone: start it again",
        io::ErrorKind::PermissionDenied => "; only who runs the daemon may command it: try as that user",
        _ => "",
    };
    Failed::NoDaemon(format!("{}: {error}{hint}", socket.display()))
}

fn refusal(method: &str, error: &Json) -> String {
    let text = |name| match error.member(name) {
        Some(Json::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
        None => None,
    };
    let (code, message) = (text("code").unwrap_or_default(), text("message").unwrap_or_default());
    let detail = text("data").map(|data| format!(": {data}")).unwrap_or_default();
    format!("{method}: {message}{detail} (code {code})")
}
