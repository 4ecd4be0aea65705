//! Calls over TCP: by TLS, from who shows the token, and from nobody else.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use lunette::limits::RPC_STRANGERS_MAX;
use lunette::rpc::server::Server;
use lunette::rpc::tcp::{Bound, Entry};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use serde_json::{Value, json};

use super::daemon::{Folder, Managed};
use crate::harness::SOON;

const TOKEN: &str = "a-token-that-nobody-guesses";
const VERSION: &str = r#"{"jsonrpc":"2.0","id":1,"method":"spdk_get_version"}"#;

/// For localhost and 127.0.0.1, as docs/configure.md makes it, until 2126; nobody's secret.
const CERT: &str = include_str!("tcp/cert.pem");
const KEY: &str = include_str!("tcp/key.pem");
/// Somebody else's.
const OTHER: &str = include_str!("tcp/other.pem");

/// What a door is made of, in a daemon's folder.
struct Keys {
    cert: CertificateDer<'static>,
    files: [PathBuf; 3],
}

impl Keys {
    fn make(folder: &Folder) -> Keys {
        let files = ["cert.pem", "key.pem", "token"].map(|name| folder.path(name));
        let token = format!("{TOKEN}\n");
        for (file, text) in files.iter().zip([CERT, KEY, &token]) {
            std::fs::write(file, text).unwrap();
            mode(file, 0o600);
        }
        Keys { cert: CertificateDer::from_pem_slice(CERT.as_bytes()).unwrap(), files }
    }

    fn entry(&self, more: &str) -> String {
        let [cert, key, token] = self.files.each_ref().map(|file| file.display());
        format!("127.0.0.1:0,cert={cert},key={key},token-file={token}{more}")
    }

    fn open(&self, daemon: &Managed, more: &str) -> (Server, SocketAddr) {
        let bound = Bound::bind(&self.entry(more).parse::<Entry>().unwrap()).unwrap();
        let address = bound.address();
        (daemon.serve(|context| bound.serve(context)), address)
    }

    fn connect(&self, address: SocketAddr, version: &'static SupportedProtocolVersion) -> Conn {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let conn = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap());
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        BufReader::new(StreamOwned::new(conn.unwrap(), stream))
    }
}

type Conn = BufReader<StreamOwned<ClientConnection, TcpStream>>;

fn mode(path: &PathBuf, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn say(conn: &mut Conn, text: &str) {
    conn.get_mut().write_all(text.as_bytes()).unwrap();
    conn.get_mut().flush().unwrap();
}

fn answer(conn: &mut Conn) -> Value {
    let mut line = String::new();
    conn.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Everything that a client is told until the connection ends.
fn told(conn: &mut Conn) -> Vec<u8> {
    let mut told = Vec::new();
    // It may end without a goodbye.
    let _ = conn.read_to_end(&mut told);
    told
}

#[test]
fn calls_are_answered_by_either_version() {
    let daemon = Managed::start();
    let keys = Keys::make(&daemon.folder);
    let (_server, address) = keys.open(&daemon, "");
    for (version, agreed) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut conn = keys.connect(address, version);
        say(&mut conn, &format!("{TOKEN}\n{VERSION}"));
        assert!(answer(&mut conn)["result"]["version"].is_string());
        assert_eq!(conn.get_ref().conn.protocol_version(), Some(agreed));
        // A batch, in two pieces, and a long answer.
        say(&mut conn, &format!("[{VERSION},"));
        say(&mut conn, r#"{"jsonrpc":"2.0","id":2,"method":"lunette_get_schema"}]"#);
        let both = answer(&mut conn);
        assert!(both[0]["result"].is_object() && both[1]["result"].to_string().len() > 10_000);
        say(&mut conn, "nonsense");
        assert_eq!(answer(&mut conn)["error"]["code"], -32700);
        assert_eq!(told(&mut conn), b"");
    }
}

#[test]
fn who_does_not_show_the_token_is_told_nothing() {
    let daemon = Managed::start();
    let keys = Keys::make(&daemon.folder);
    let (_server, address) = keys.open(&daemon, "");
    let long = format!("{}\n", "x".repeat(100_000));
    let almost = format!("{}\n{VERSION}", &TOKEN[1..]);
    let more = format!("{TOKEN}x\n{VERSION}");
    let call = format!("{VERSION}\n");
    for said in ["\n", &call, &almost, &more, &long] {
        let mut conn = keys.connect(address, &TLS13);
        // It may be gone before all is said.
        let _ = conn.get_mut().write_all(said.as_bytes());
        assert_eq!(told(&mut conn), b"", "{said:.20}");
    }
    // Nor who says no TLS at all: an alert at most (RFC 8446 §6), which is no text.
    for said in [
        VERSION.to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("{TOKEN}\n{VERSION}"),
        "\u{16}".repeat(70_000),
    ] {
        let mut plain = TcpStream::connect(address).unwrap();
        plain.set_read_timeout(Some(SOON)).unwrap();
        let _ = plain.write_all(said.as_bytes());
        let mut told = Vec::new();
        let _ = plain.read_to_end(&mut told);
        assert!(told.len() <= 7 && told.first().is_none_or(|&kind| kind == 21), "{told:?}");
    }
    let mut conn = keys.connect(address, &TLS13);
    say(&mut conn, &format!("{TOKEN}\r\n{VERSION}"));
    assert!(answer(&mut conn)["result"].is_object());
}

#[test]
fn who_stalls_keeps_nobody_out() {
    let daemon = Managed::start();
    let keys = Keys::make(&daemon.folder);
    let (_server, address) = keys.open(&daemon, "");
    let mut first = keys.connect(address, &TLS13);
    say(&mut first, &format!("{TOKEN}\n{VERSION}"));
    assert!(answer(&mut first)["result"].is_object());
    let stalled = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        // The beginning of a handshake's record.
        stream.write_all(&[0x16, 3, 1, 2]).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    };
    // One more than there may be: that they are given up after a time, too, is shown beside the code.
    let mut stalled: Vec<TcpStream> = (0..=RPC_STRANGERS_MAX).map(stalled).collect();
    let mut conn = keys.connect(address, &TLS12);
    say(&mut conn, &format!("{TOKEN}\n{VERSION}"));
    assert!(answer(&mut conn)["result"].is_object());
    say(&mut first, VERSION);
    assert!(answer(&mut first)["result"].is_object());
    // The first made room for those that came after it.
    let ended = stalled[0].read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(ended, Ok(0) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
}

#[test]
fn a_door_for_reading_is_for_reading() {
    let daemon = Managed::start();
    let keys = Keys::make(&daemon.folder);
    let (_server, address) = keys.open(&daemon, ",read-only");
    let mut conn = keys.connect(address, &TLS13);
    say(&mut conn, &format!("{TOKEN}\n"));
    for (method, is_fine) in
        [("bdev_get_bdevs", true), ("lunette_get_config", false), ("bdev_malloc_create", false)]
    {
        say(&mut conn, &json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string());
        let answer = answer(&mut conn);
        assert_eq!(answer["error"] == Value::Null, is_fine, "{answer}");
    }
}

#[test]
fn files_that_others_reach_and_that_are_none_are_refused() {
    let folder = Folder::new();
    let keys = Keys::make(&folder);
    let refused = || Bound::bind(&keys.entry("").parse().unwrap()).unwrap_err().to_string();
    for secret in &keys.files[1..] {
        mode(secret, 0o604);
        let why = refused();
        assert!(why.ends_with(&format!("chmod 600 {}", secret.display())), "{why}");
        assert!(!why.contains(TOKEN));
        mode(secret, 0o600);
    }
    mode(&keys.files[0], 0o644);
    Bound::bind(&keys.entry("").parse().unwrap()).unwrap();
    std::fs::write(&keys.files[2], "short\n").unwrap();
    assert!(refused().contains("16 to 1024 bytes"));
    std::fs::write(&keys.files[2], format!("{TOKEN}\n{TOKEN}\n")).unwrap();
    assert!(refused().contains("one line"));
    std::fs::write(&keys.files[2], TOKEN).unwrap();
    std::fs::write(&keys.files[0], "no PEM").unwrap();
    assert!(refused().contains("no certificate"));
    std::fs::write(&keys.files[0], OTHER).unwrap();
    assert!(refused().starts_with("--rpc-tcp: certificate and key:"), "{}", refused());
    std::fs::remove_file(&keys.files[1]).unwrap();
    assert!(refused().contains("key.pem"));
}

#[test]
fn the_command_line_calls_over_tcp() {
    let daemon = Managed::start();
    let keys = Keys::make(&daemon.folder);
    let (_server, address) = keys.open(&daemon, "");
    let run = |host: &str, token: &PathBuf, trusted: &PathBuf| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
        command.args(["rpc", "spdk_get_version", "--socket", &format!("tcp://{host}:{}", address.port())]);
        command.env("LUNETTE_TOKEN_FILE", token).env("LUNETTE_CA_FILE", trusted);
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let [cert, _, token] = &keys.files;
    for host in ["127.0.0.1", "localhost"] {
        let (is_done, said) = run(host, token, cert);
        assert!(is_done && said.contains("version"), "{said}");
    }
    let wrong = daemon.folder.path("wrong");
    std::fs::write(&wrong, "another-token-that-is-long").unwrap();
    mode(&wrong, 0o600);
    let (is_done, said) = run("127.0.0.1", &wrong, cert);
    assert!(!is_done && said.contains("tcp://127.0.0.1"), "{said}");
    mode(&wrong, 0o644);
    let (is_done, said) = run("127.0.0.1", &wrong, cert);
    assert!(!is_done && said.contains("chmod 600"), "{said}");
    let strange = daemon.folder.path("strange");
    std::fs::write(&strange, OTHER).unwrap();
    let (is_done, said) = run("127.0.0.1", token, &strange);
    assert!(!is_done && said.contains("certificate"), "{said}");
}

#[test]
fn openssl_calls_over_tcp() {
    let daemon = Managed::start();
    let keys = Keys::make(&daemon.folder);
    let (_server, address) = keys.open(&daemon, "");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            version,
            "-connect",
            &address.to_string(),
        ]);
        command.arg("-CAfile").arg(&keys.files[0]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut client) = started else {
            println!("not run: no openssl here");
            return;
        };
        let mut says = client.stdin.take().unwrap();
        says.write_all(format!("{TOKEN}\n{VERSION}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
        client.kill().unwrap();
        client.wait().unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["result"]["version"].is_string(), "{answer}");
    }
}

#[test]
fn a_subscriber_is_told_what_happens() {
    let daemon = Managed::start();
    let keys = Keys::make(&daemon.folder);
    let (_server, address) = keys.open(&daemon, "");
    let mut conn = keys.connect(address, &TLS13);
    say(
        &mut conn,
        &format!("{TOKEN}\n{}", json!({"jsonrpc": "2.0", "id": 1, "method": "lunette_subscribe"})),
    );
    assert_eq!(answer(&mut conn)["error"], Value::Null);
    let mut other = keys.connect(address, &TLS12);
    say(&mut other, &format!("{TOKEN}\n"));
    let params = json!({"num_blocks": 2048, "block_size": 512, "name": "N"});
    say(
        &mut other,
        &json!({"jsonrpc": "2.0", "id": 1, "method": "bdev_null_create", "params": params}).to_string(),
    );
    assert_eq!(answer(&mut other)["result"], "N");
    assert_eq!(answer(&mut conn)["method"], "lunette_event");
}

#[test]
fn serve_takes_calls_over_tcp() {
    let folder = Folder::new();
    let keys = Keys::make(&folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
    command.args([
        "serve",
        "--null",
        "n:1M",
        "--portal",
        "127.0.0.1:0",
        "--mem-size",
        "16",
        "--hugepages",
        "off",
    ]);
    command.args(["--idle", "park", "--rpc-tcp", &keys.entry("")]).env("LUNETTE_SOCKET", "");
    let mut daemon = Ended(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
    let address =
        log.find_map(|line| line.unwrap().split_once("tcp://").map(|(_, at)| at.parse::<SocketAddr>()));
    let mut conn = keys.connect(address.expect("it says where").unwrap(), &TLS13);
    say(&mut conn, &format!("{TOKEN}\n{VERSION}"));
    assert!(answer(&mut conn)["result"].is_object());
    kill_process(Pid::from_child(&daemon.0), Signal::TERM).unwrap();
    assert_eq!(told(&mut conn), b"");
    // What it has to say meanwhile is read.
    assert!(log.all(|line| line.is_ok()));
    assert!(daemon.0.wait().unwrap().success());
}

/// A process that does not outlive a test that fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
