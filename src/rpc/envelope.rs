//! JSON-RPC 2.0 over a stream, sans-IO: where a value ends, what it calls, how the answer is put.
//!
//! There is no framing: values follow one another with or without white space, split anywhere. [`Stream`] finds where
//! one ends by its brackets and strings, in one pass; serde_json judges it. As with SPDK, what is no JSON is answered
//! and ends the connection, as nothing says where the next value would begin; anything else goes on.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::json::Json;
use crate::limits::{RPC_BATCH_CALLS_MAX, RPC_DEPTH_MAX, RPC_REQUEST_BYTES_MAX};

/// Where the scan stands in a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scan {
    /// Before it.
    Between,
    /// In an array or object, so deep.
    Nested(usize),
    /// In a string, so deep; whether a backslash precedes.
    Text(usize, bool),
    /// In a number or word on its own.
    Word,
}

/// Cuts a stream of bytes into JSON values.
#[derive(Debug)]
pub struct Stream {
    buffer: Vec<u8>,
    /// Up to here it was handed out.
    start: usize,
    /// Up to here it was scanned.
    scanned: usize,
    scan: Scan,
    /// Bytes of the unfinished value when it was last looked at for errors.
    checked: usize,
    /// Bytes that a value may have.
    bytes_max: usize,
}

impl Stream {
    /// Of requests: they are bounded.
    pub fn requests() -> Stream {
        Stream::new(RPC_REQUEST_BYTES_MAX)
    }

    /// Of answers, by a client that believes its daemon.
    pub fn answers() -> Stream {
        Stream::new(usize::MAX)
    }

    fn new(bytes_max: usize) -> Stream {
        Stream { buffer: Vec::new(), start: 0, scanned: 0, scan: Scan::Between, checked: 0, bytes_max }
    }

    /// Adds what has come. [`Stream::next_value`] is to be called until it gives none.
    pub fn received(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a value has begun and not ended.
    pub fn is_amid(&self) -> bool {
        self.scan != Scan::Between
    }

    /// The next whole value.
    ///
    /// # Errors
    /// What has come cannot become a value. To be answered; then the stream is of no more use.
    pub fn next_value(&mut self) -> Result<Option<String>, Fault> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            let (scan, is_over) = step(self.scan, byte)?;
            // A word ends before the byte that is not its own.
            let takes_byte = self.scan != Scan::Word || scan == Scan::Word;
            self.scan = scan;
            self.scanned += usize::from(takes_byte);
            if is_over {
                let value = self.buffer[self.start..self.scanned].to_vec();
                self.start = self.scanned;
                self.checked = 0;
                let value = String::from_utf8(value).map_err(|_| parse_error("it is not UTF-8"))?;
                return Ok(Some(value));
            }
            if scan == Scan::Between {
                self.start = self.scanned;
            }
        }
        let open = &self.buffer[self.start..];
        if open.len() > self.bytes_max {
            return Err(parse_error(format_args!("a request has {} bytes at most", self.bytes_max)));
        }
        // What is no JSON may never come to an end. Looking only when twice as much is there keeps the work linear.
        if open.len() / 2 >= self.checked && !open.is_empty() {
            self.checked = open.len();
            let mut values = serde_json::Deserializer::from_slice(open).into_iter::<IgnoredAny>();
            if let Some(Err(error)) = values.next()
                && !error.is_eof()
            {
                return Err(parse_error(error));
            }
        }
        Ok(None)
    }
}

/// One byte on; whether the value ends with it (a word: before it).
fn step(scan: Scan, byte: u8) -> Result<(Scan, bool), Fault> {
    let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let closed = |depth: usize| if depth == 0 { (Scan::Between, true) } else { (Scan::Nested(depth), false) };
    Ok(match (scan, byte) {
        (Scan::Between, _) if is_space => (Scan::Between, false),
        (Scan::Between, b'[' | b'{') => (Scan::Nested(1), false),
        (Scan::Between, b'"') => (Scan::Text(0, false), false),
        (Scan::Between, _) => (Scan::Word, false),
        (Scan::Nested(depth), b'[' | b'{') if depth >= RPC_DEPTH_MAX => {
            return Err(parse_error(format_args!("values nest {RPC_DEPTH_MAX} deep at most")));
        }
        (Scan::Nested(depth), b'[' | b'{') => (Scan::Nested(depth + 1), false),
        (Scan::Nested(depth), b']' | b'}') => closed(depth - 1),
        (Scan::Nested(depth), b'"') => (Scan::Text(depth, false), false),
        (Scan::Nested(depth), _) => (Scan::Nested(depth), false),
        (Scan::Text(depth, true), _) => (Scan::Text(depth, false), false),
        (Scan::Text(depth, false), b'\\') => (Scan::Text(depth, true), false),
        (Scan::Text(depth, false), b'"') => closed(depth),
        (Scan::Text(depth, false), _) => (Scan::Text(depth, false), false),
        (Scan::Word, b'[' | b'{' | b'"' | b',') => (Scan::Between, true),
        (Scan::Word, _) if is_space => (Scan::Between, true),
        (Scan::Word, _) => (Scan::Word, false),
    })
}

/// A request's name for its answer: the JSON text that came, or none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Id(Option<String>);

/// One call.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// None where no answer is wanted.
    pub id: Id,
    /// Its name.
    pub method: String,
    /// An object or array; null where there are none.
    pub params: Json,
}

/// What a whole value asks for.
#[derive(Debug)]
pub enum Request<'a> {
    /// One call.
    One(&'a str),
    /// Several, answered in one array.
    Batch(Vec<&'a str>),
}

impl<'a> Request<'a> {
    /// Takes a value apart.
    ///
    /// # Errors
    /// It is no JSON, or cannot be a request.
    pub fn parse(text: &'a str) -> Result<Request<'a>, Fault> {
        match text.trim_start().as_bytes().first() {
            Some(b'{') => {
                serde_json::from_str::<IgnoredAny>(text).map_err(parse_error)?;
                Ok(Request::One(text))
            }
            Some(b'[') => {
                let Batch(calls) = serde_json::from_str(text).map_err(|error| match error.classify() {
                    serde_json::error::Category::Data => invalid_request(error),
                    _ => parse_error(error),
                })?;
                if calls.is_empty() {
                    return Err(invalid_request("the batch is empty"));
                }
                Ok(Request::Batch(calls))
            }
            _ => {
                serde_json::from_str::<IgnoredAny>(text).map_err(parse_error)?;
                Err(invalid_request("a request is an object or an array of objects"))
            }
        }
    }
}

impl Call {
    /// Reads one call from its JSON.
    ///
    /// # Errors
    /// Why it is none, with its id where it has one.
    pub fn parse(text: &str) -> Result<Call, (Id, Fault)> {
        let no_id = |why: &dyn fmt::Display| (Id(None), invalid_request(why));
        let Members(members) = serde_json::from_str(text).map_err(|error| no_id(&error))?;
        let (mut id, mut method, mut params) = (Id(None), None, None);
        // The id first, so that whatever else is wrong is answered to it.
        let is_id = |(name, _): &&(String, &RawValue)| name == "id";
        if let Some((_, value)) = members.iter().find(is_id) {
            id = Id::parse(value.get()).ok_or_else(|| no_id(&"an id is a string, a number or null"))?;
        }
        for (name, value) in &members {
            let refuse = |why: &dyn fmt::Display| (id.clone(), invalid_request(why));
            match name.as_str() {
                "id" => {}
                "jsonrpc" if Json::parse(value.get()).ok() != Some(Json::from("2.0")) => {
                    return Err(refuse(&"jsonrpc is to be \"2.0\", or left out"));
                }
                "jsonrpc" => {}
                "method" => match Json::parse(value.get()) {
                    Ok(Json::String(name)) => method = Some(name),
                    _ => return Err(refuse(&"method is to be a string")),
                },
                "params" => params = Some(value.get()),
                _ => return Err(refuse(&format_args!("a request has no member {name:?}"))),
            }
        }
        let Some(method) = method else { return Err((id, invalid_request("method is missing"))) };
        let params = match params.map(Json::parse) {
            None => Json::Null,
            Some(Ok(params @ (Json::Null | Json::Array(_) | Json::Object(_)))) => params,
            Some(Ok(_)) => return Err((id, invalid_request("params is to be an object"))),
            Some(Err(error)) => return Err((id, Fault::params(error))),
        };
        Ok(Call { id, method, params })
    }
}

impl Id {
    fn parse(text: &str) -> Option<Id> {
        match Json::parse(text).ok()? {
            Json::Null => Some(Id(None)),
            // As it came: 1.0 and 1e0 are not answered as 1.
            Json::Unsigned(_) | Json::Negative(_) | Json::Float(_) => Some(Id(Some(text.to_owned()))),
            string @ Json::String(_) => Some(Id(Some(string.to_string()))),
            Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
        }
    }
}

/// The answer's JSON text; none where a call without an id succeeded.
pub fn answer(id: &Id, outcome: Result<Json, Fault>) -> Option<String> {
    if id.0.is_none() && outcome.is_ok() {
        return None;
    }
    let mut out = format!(r#"{{"jsonrpc":"2.0","id":{},"#, id.0.as_deref().unwrap_or("null"));
    let (name, value) = match outcome {
        Ok(result) => ("result", result),
        Err(fault) => ("error", fault.json()),
    };
    out.push_str(&format!("\"{name}\":"));
    value.write(&mut out);
    out.push('}');
    Some(out)
}

fn parse_error(why: impl fmt::Display) -> Fault {
    Fault { detail: Some(why.to_string()), ..Fault::new(Fault::PARSE_ERROR, "Parse error") }
}

fn invalid_request(why: impl fmt::Display) -> Fault {
    Fault { detail: Some(why.to_string()), ..Fault::new(Fault::INVALID_REQUEST, "Invalid request") }
}

/// The elements of an array, unread.
struct Batch<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Batch<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Batch<'de>, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Batch<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Batch<'de>, A::Error> {
                let mut calls = Vec::new();
                while let Some(call) = from.next_element::<&RawValue>()? {
                    if calls.len() >= RPC_BATCH_CALLS_MAX {
                        return Err(A::Error::custom(format_args!(
                            "a batch has {RPC_BATCH_CALLS_MAX} calls at most"
                        )));
                    }
                    calls.push(call.get());
                }
                Ok(Batch(calls))
            }
        }
        from.deserialize_seq(Elements)
    }
}

/// The members of an object, their values unread, no name twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Members<'de>, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = from.next_entry::<String, &RawValue>()? {
                    // A request has four members; one more is refused by its name.
                    if members.len() > 4 || members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format_args!("{name:?} is one member too many")));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests;
