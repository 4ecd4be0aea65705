//! Values cut from streams, requests read, answers put.

use super::*;

/// The values of a stream that comes in pieces of `bytes`, and what ends it.
fn values(text: &[u8], bytes: usize) -> (Vec<String>, Option<String>) {
    let (mut stream, mut values) = (Stream::requests(), Vec::new());
    for piece in text.chunks(bytes) {
        stream.received(piece);
        loop {
            match stream.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(fault) => return (values, Some(fault.text())),
            }
        }
    }
    (values, None)
}

#[test]
fn values_are_found_however_the_stream_is_split() {
    let text = br#" {"a":"}\"]\\"}{"b":[1,{}]}
[[]] "x" 12 {} "#;
    let expected = [r#"{"a":"}\"]\\"}"#, r#"{"b":[1,{}]}"#, "[[]]", "\"x\"", "12", "{}"];
    for bytes in 1..text.len() + 1 {
        let (values, fault) = values(text, bytes);
        assert_eq!(values, expected, "in pieces of {bytes}");
        assert_eq!(fault, None);
    }
}

#[test]
fn a_stream_is_amid_a_value_or_not() {
    let mut stream = Stream::requests();
    for (piece, is_amid) in [("  ", false), ("{", true), ("\"a\":1", true), ("}", false), ("\n", false)] {
        stream.received(piece.as_bytes());
        while stream.next_value().unwrap().is_some() {}
        assert_eq!(stream.is_amid(), is_amid, "{piece}");
    }
}

#[test]
fn what_cannot_become_json_is_found_at_once() {
    for text in ["hello", "{\"a\" b", "{\"a\":nonsense", "}"] {
        let (values, fault) = values(text.as_bytes(), text.len());
        assert_eq!(values, Vec::<String>::new(), "{text}");
        assert!(fault.unwrap().starts_with("Parse error: "), "{text}");
    }
    assert_eq!(values(b"{} {\"\xff\":1} ", 3).1.unwrap(), "Parse error: it is not UTF-8");
}

#[test]
fn depth_and_length_are_bounded() {
    let (found, fault) = values("[".repeat(100_000).as_bytes(), 4096);
    assert_eq!((found.len(), fault.unwrap().as_str()), (0, "Parse error: values nest 64 deep at most"));
    let deepest = "[".repeat(RPC_DEPTH_MAX) + &"]".repeat(RPC_DEPTH_MAX);
    assert_eq!(values(deepest.as_bytes(), 7), (vec![deepest.clone()], None));
    let long = format!("\"{}", "x".repeat(RPC_REQUEST_BYTES_MAX));
    let (found, fault) = values(long.as_bytes(), 65_536);
    assert_eq!(
        (found.len(), fault.unwrap().as_str()),
        (0, "Parse error: a request has 4194304 bytes at most")
    );
}

fn call(text: &str) -> (String, Json) {
    let Call { method, params, .. } = Call::parse(text).unwrap();
    (method, params)
}

/// The answer to what is no call.
fn refused(text: &str) -> String {
    let (id, fault) = Call::parse(text).unwrap_err();
    answer(&id, Err(fault)).unwrap()
}

#[test]
fn calls_are_read() {
    let none = || ("m".to_owned(), Json::Null);
    assert_eq!(call(r#"{"jsonrpc":"2.0","method":"m","id":1}"#), none());
    assert_eq!(call(r#"{"params":null,"method":"m"}"#), none());
    assert_eq!(call(r#"{"method":"m","params":{"a":1}}"#).1.to_string(), r#"{"a":1}"#);
    assert_eq!(call(r#"{"method":"m","params":[]}"#).1.to_string(), "[]");
}

#[test]
fn what_is_no_call_is_answered_with_its_id() {
    for (text, id, why) in [
        ("1", "null", "invalid type: integer `1`, expected an object at line 1 column 1"),
        (r#"{"id":7}"#, "7", "method is missing"),
        (r#"{"method":1,"id":7}"#, "7", "method is to be a string"),
        (r#"{"method":"m","id":{}}"#, "null", "an id is a string, a number or null"),
        (r#"{"method":"m","jsonrpc":"1.0","id":"x"}"#, r#""x""#, r#"jsonrpc is to be \"2.0\", or left out"#),
        (r#"{"method":"m","params":1,"id":7}"#, "7", "params is to be an object"),
        (r#"{"method":"m","param":{},"id":7}"#, "7", r#"a request has no member \"param\""#),
        (
            r#"{"method":"m","method":"n","id":7}"#,
            "null",
            r#"\"method\" is one member too many at line 1 column 26"#,
        ),
    ] {
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32600,"message":"Invalid request","data":"{why}"}}}}"#
        );
        assert_eq!(refused(text), expected, "{text}");
    }
    assert_eq!(
        refused(r#"{"method":"m","params":{"tag":1,"tag":2},"id":7}"#),
        r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"Invalid parameters: \"tag\" is given twice at line 1 column 17"}}"#
    );
}

#[test]
fn ids_come_back_as_they_came() {
    let echoed = |id: &str| {
        let call = Call::parse(&format!(r#"{{"method":"m","id":{id}}}"#)).unwrap();
        answer(&call.id, Ok(Json::Bool(true)))
    };
    for id in ["1", "-1", "1.0", "1e2", "18446744073709551615", r#""a""#, r#""""#] {
        assert_eq!(echoed(id).unwrap(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":true}}"#));
    }
    assert_eq!(echoed("\"\u{e9}\"").unwrap(), r#"{"jsonrpc":"2.0","id":"\u00e9","result":true}"#);
    assert_eq!(echoed("null"), None);
    assert_eq!(answer(&Id::default(), Ok(Json::Null)), None);
}

#[test]
fn batches_are_taken_apart() {
    let Request::Batch(calls) = Request::parse(r#"[{"a":[1]}, 2,"x"]"#).unwrap() else { panic!("no batch") };
    assert_eq!(calls, [r#"{"a":[1]}"#, "2", "\"x\""]);
    let refused = |text: &str| Request::parse(text).unwrap_err().text();
    assert_eq!(refused("[]"), "Invalid request: the batch is empty");
    assert_eq!(refused("[1,]"), "Parse error: trailing comma at line 1 column 4");
    assert_eq!(refused("7"), "Invalid request: a request is an object or an array of objects");
    for text in ["{]", "GET", "\u{feff}"] {
        assert!(refused(text).starts_with("Parse error: "), "{text}");
    }
    assert_eq!(refused("{\"a\":}"), "Parse error: expected value at line 1 column 6");
    let many = format!("[{}1]", "1,".repeat(RPC_BATCH_CALLS_MAX));
    assert!(refused(&many).starts_with("Invalid request: a batch has 8192 calls at most"));
}
