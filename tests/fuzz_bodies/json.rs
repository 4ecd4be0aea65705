//! Bytes into the JSON-RPC envelope: however they are split, the same values are found; whatever they say, the answer is
//! one line of ASCII that a JSON parser takes.

use lunette::rpc::envelope::{Call, Id, Request, Stream, answer};
use lunette::rpc::fault::Fault;
use lunette::rpc::json::Json;
use lunette::rpc::methods;

use super::source::Source;

pub(super) fn one(data: &[u8]) {
    let mut source = Source::new(data);
    let piece_bytes = usize::from(source.byte()) + 1;
    let text = source.rest();
    let (values, fault) = values(text.chunks(piece_bytes));
    let (whole, whole_fault) = self::values([text].into_iter());
    // What is no JSON is found later or earlier, but not differently.
    if fault.is_none() && whole_fault.is_none() {
        assert_eq!(values, whole);
    } else {
        assert!(values.iter().zip(&whole).all(|(one, other)| one == other));
    }
    for fault in fault.into_iter().chain(whole_fault) {
        check(answer(&Id::default(), Err(fault)));
    }
    for value in &whole {
        request(value);
    }
}

/// The values in a stream, and what ends it.
fn values<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<Fault>) {
    let (mut stream, mut values) = (Stream::requests(), Vec::new());
    for piece in pieces {
        stream.received(piece);
        loop {
            match stream.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(fault) => return (values, Some(fault)),
            }
        }
    }
    (values, None)
}

fn request(text: &str) {
    match Request::parse(text) {
        Ok(Request::One(text)) => call(text),
        Ok(Request::Batch(calls)) => calls.into_iter().for_each(call),
        Err(fault) => check(answer(&Id::default(), Err(fault))),
    }
}

fn call(text: &str) {
    match Call::parse(text) {
        Ok(Call { id, method, params }) => {
            // The parameters are some method's: that of this name, or one that their length chooses.
            let count = methods::all().count();
            let other = methods::all().nth(text.len() % count).unwrap();
            let is_there = methods::check(&method, params.clone()).is_ok();
            let would_do = methods::check(other.name, params.clone());
            check(answer(&id, would_do.map(|_| Json::Bool(is_there))));
            check(answer(&id, Ok(params)));
        }
        Err((id, fault)) => check(answer(&id, Err(fault))),
    }
}

fn check(answer: Option<String>) {
    let Some(answer) = answer else { return };
    assert!(answer.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{answer}");
    let value = Json::parse(&answer).unwrap();
    // An id is echoed as it came, perhaps with another spelling of a number; after that nothing changes any more.
    let again = value.to_string();
    assert_eq!(Json::parse(&again).unwrap().to_string(), again);
}
