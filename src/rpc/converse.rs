//! What a client and the daemon say to each other on a connection, of whatever kind it is.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::calls::UNKNOWN;
use super::context::Context;
use super::door::{self, May};
use super::envelope::{Call, Id, Request, Stream, answer};
use super::events;
use super::fault::Fault;
use super::json::Json;
use super::methods;
use crate::limits::RPC_REQUEST_NS;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// A client that sent no JSON has so long to take the answer before its connection is closed.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A connection.
pub(super) trait Line: Read + Write {
    /// A read ends after so long at most, with [`ErrorKind::WouldBlock`] or [`ErrorKind::TimedOut`].
    fn read_within(&mut self, limit: Option<Duration>) -> io::Result<()>;
    /// Nothing more is written.
    fn end_writing(&mut self) -> io::Result<()>;
}

impl Line for UnixStream {
    fn read_within(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(limit)
    }

    fn end_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// What is served, and to whom.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) context: Arc<Context>,
    pub(super) may: May,
}

/// Serves a connection to its end.
pub(super) fn serve(stream: &mut impl Line, service: &Service) -> io::Result<()> {
    let mut values = Stream::requests();
    let mut chunk = vec![0; READ_BYTES];
    // When a request that has begun has to be complete.
    let mut due = None;
    loop {
        let left = due.map(|due: Instant| due.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(io::Error::new(ErrorKind::TimedOut, "half a request came and no more"));
        }
        stream.read_within(left)?;
        let bytes = match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                ) =>
            {
                continue;
            }
            // A client that has its answer may go without a word.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
                    && !values.is_amid() =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        values.received(&chunk[..bytes]);
        let fault = loop {
            match values.next_value() {
                Ok(None) => break None,
                Ok(Some(text)) => match handle(&text, service, stream)? {
                    Next::GoOn => due = None,
                    Next::Tell(subscription) => {
                        return events::serve(stream, &service.context, &subscription);
                    }
                    Next::End(fault) => break Some(fault),
                },
                Err(fault) => break Some(fault),
            }
        };
        if let Some(fault) = fault {
            return close(stream, fault);
        }
        if values.is_amid() {
            due = due.or_else(|| Some(Instant::now() + Duration::from_nanos(RPC_REQUEST_NS)));
        }
    }
}

/// Answers what was no JSON, and nothing after it.
fn close(stream: &mut impl Line, fault: Fault) -> io::Result<()> {
    let error = io::Error::new(ErrorKind::InvalidData, fault.text());
    send(stream, answer(&Id::default(), Err(fault)), "\n")?;
    stream.end_writing()?;
    // The client may still be sending: it shall see the answer, not a broken pipe.
    let (until, mut chunk) = (Instant::now() + LINGER, vec![0; READ_BYTES]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.read_within(Some(left)).is_err() {
            break;
        }
        if !matches!(stream.read(&mut chunk), Ok(1..)) {
            break;
        }
    }
    Err(error)
}

/// What a connection goes on with.
enum Next {
    /// The next value.
    GoOn,
    /// What happens, from what the subscription was answered with.
    Tell(Json),
    /// Nothing, for this fault.
    End(Fault),
}

/// Does what a whole value asks for and answers it.
fn handle(text: &str, service: &Service, stream: &mut impl Line) -> io::Result<Next> {
    match Request::parse(text) {
        Err(fault) if fault.code == Fault::PARSE_ERROR => return Ok(Next::End(fault)),
        Err(fault) => send(stream, answer(&Id::default(), Err(fault)), "\n")?,
        Ok(Request::One(text)) => {
            let mut reply = call(text, service);
            let subscription = reply.subscription.take();
            send(stream, reply.kept(&service.context), "\n")?;
            if let Some(subscription) = subscription {
                return Ok(Next::Tell(subscription));
            }
        }
        Ok(Request::Batch(calls)) => {
            let mut before = "[";
            let mut replies = Vec::new();
            let mut bytes = 0;
            let mut calls = calls.into_iter().peekable();
            while let Some(text) = calls.next() {
                let reply = call(text, service);
                bytes += reply.answer.as_ref().map_or(0, String::len);
                replies.push(reply);
                // Changes of many calls are kept at once, but no batch makes an answer that fills memory.
                if bytes >= READ_BYTES || calls.peek().is_none() {
                    bytes = 0;
                    for answer in kept(std::mem::take(&mut replies), &service.context) {
                        stream.write_all(before.as_bytes())?;
                        send(stream, Some(answer), "")?;
                        before = ",";
                    }
                }
            }
            if before == "," {
                stream.write_all(b"]\n")?;
                stream.flush()?;
            }
        }
    }
    Ok(Next::GoOn)
}

fn send(stream: &mut impl Line, answer: Option<String>, end: &str) -> io::Result<()> {
    let Some(mut answer) = answer else { return Ok(()) };
    answer.push_str(end);
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}

/// What is to be said to a call.
struct Reply {
    id: Id,
    answer: Option<String>,
    /// It was done.
    is_ok: bool,
    /// It may have changed the configuration, even where it failed.
    change: Option<String>,
    /// It asks to be told what happens, and was answered so.
    subscription: Option<Json>,
}

impl Reply {
    /// The answer, once what the call has changed is kept.
    fn kept(self, context: &Context) -> Option<String> {
        kept(vec![self], context).pop()
    }
}

/// The answers, once what the calls have changed is kept.
fn kept(replies: Vec<Reply>, context: &Context) -> Vec<String> {
    let change = replies.iter().find_map(|reply| reply.change.as_deref());
    let fault = change.and_then(|method| context.keep(method).err());
    let answers = replies.into_iter().filter_map(|reply| match &fault {
        Some(fault) if reply.change.is_some() && reply.is_ok => answer(&reply.id, Err(fault.clone())),
        _ => reply.answer,
    });
    answers.collect()
}

/// Makes one call.
fn call(text: &str, service: &Service) -> Reply {
    let Call { id, method, params } = match Call::parse(text) {
        Ok(call) => call,
        Err((id, fault)) => {
            let answer = answer(&id, Err(fault));
            return Reply { id, answer, is_ok: false, change: None, subscription: None };
        }
    };
    let Service { context, may } = service;
    let began = Instant::now();
    let refusal = may.refusal(&method, &params);
    let is_allowed = refusal.is_none();
    let outcome = match refusal {
        None => methods::call(context, &method, params),
        Some(fault) => Err(fault),
    };
    let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let named = methods::find(&method).map_or(UNKNOWN, |method| method.name);
    context.calls.enter(named, outcome.is_ok(), took_ns);
    let outcome = if method == door::LIST { outcome.map(|all| may.listed(all)) } else { outcome };
    if let Err(fault) = &outcome {
        tracing::info!(method, code = fault.code, "JSON-RPC call refused: {}", fault.text());
    }
    let subscription = outcome.as_ref().ok().filter(|_| method == events::SUBSCRIBE).cloned();
    let is_change = is_allowed && methods::find(&method).is_ok_and(|method| !method.is_reading());
    let is_ok = outcome.is_ok();
    let answer = answer(&id, outcome);
    Reply { id, answer, is_ok, change: is_change.then_some(method), subscription }
}
