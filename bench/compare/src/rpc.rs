//! JSON-RPC over a UNIX socket, as SPDK and lunette speak it: one call, one answer, and the connection is closed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fault::Fault;

const LIMIT: Duration = Duration::from_secs(20);

/// What the server answers.
pub(crate) fn call(socket: &Path, method: &str, params: Value) -> Result<Value, Fault> {
    let failed = |said: String| Fault::Call { method: method.to_owned(), said };
    let mut request = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
    if !params.is_null() {
        request["params"] = params;
    }
    let answer = exchange(socket, &request).map_err(|error| failed(error.to_string()))?;
    match answer {
        Value::Object(mut members) if members.contains_key("result") => {
            Ok(members.remove("result").unwrap_or(Value::Null))
        }
        other => Err(failed(other["error"]["message"].as_str().unwrap_or("no answer").to_owned())),
    }
}

fn exchange(socket: &Path, request: &Value) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request.to_string().as_bytes())?;
    let mut text = Vec::new();
    let mut piece = [0; 16384];
    loop {
        let count = stream.read(&mut piece)?;
        text.extend_from_slice(&piece[..count]);
        match serde_json::from_slice(&text) {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_eof() && count > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The time in which a server's reactors had something to do, and the time they had nothing, in ticks of its own.
pub(crate) fn reactor_ticks(socket: &Path) -> Option<(u64, u64)> {
    let answer = call(socket, "framework_get_reactors", Value::Null).ok()?;
    ticks(&answer)
}

fn ticks(answer: &Value) -> Option<(u64, u64)> {
    let reactors = answer["reactors"].as_array()?;
    let sum = |name: &str| reactors.iter().map(|reactor| reactor[name].as_u64()).sum::<Option<u64>>();
    Some((sum("busy")?, sum("idle")?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn ticks_of_all_reactors() {
        let answer = json!({ "tick_rate": 10, "reactors": [{ "lcore": 0, "busy": 3, "idle": 4 }, { "busy": 5, "idle": 6 }] });
        assert_eq!(ticks(&answer), Some((8, 10)));
        assert_eq!(ticks(&json!({ "reactors": [{ "lcore": 0 }] })), None);
        assert_eq!(ticks(&json!({})), None);
    }

    #[test]
    fn answers_come_in_pieces() {
        let path = std::env::temp_dir().join(format!("compare-rpc-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in [
                r#"{"jsonrpc":"2.0","id":1,"result":{"a":7}}"#,
                r#"{"id":1,"error":{"code":-1,"message":"no disk"}}"#,
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut piece = [0; 512];
                let count = stream.read(&mut piece).unwrap();
                asked.push(String::from_utf8(piece[..count].to_vec()).unwrap());
                let (head, tail) = answer.split_at(20);
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(tail.as_bytes()).unwrap();
            }
            asked
        });
        assert_eq!(call(&path, "first", json!({ "x": 1 })).unwrap(), json!({ "a": 7 }));
        assert_eq!(call(&path, "second", Value::Null).unwrap_err().to_string(), "second: no disk");
        let asked = server.join().unwrap();
        assert_eq!(asked[0], r#"{"id":1,"jsonrpc":"2.0","method":"first","params":{"x":1}}"#);
        assert_eq!(asked[1], r#"{"id":1,"jsonrpc":"2.0","method":"second"}"#);
        std::fs::remove_file(&path).unwrap();
    }
}
