//! Calls over TCP: only by TLS 1.2 or 1.3 (RFC 5246, RFC 8446), and only from who shows a token.
//!
//! The first line that a client sends is the token; from then on it is as at a UNIX socket. Who does not show it in time, or another, is
//! told nothing: the connection ends. Each connection has a thread of its own, as there; strangers are few (`crowd`).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::context::Context;
use super::converse::{Line, Service, serve};
use super::crowd::Crowd;
use super::door::May;
use super::server::{Server, too_many};
use crate::closed_file;
use crate::limits::{RPC_HANDSHAKE_NS, RPC_SEND_NS, RPC_TOKEN_BYTES_MAX};

/// Fewer can be guessed, by who has the time.
const TOKEN_BYTES_MIN: usize = 16;
/// Bytes of a key, far more than there are.
const KEY_BYTES_MAX: usize = 1 << 20;
/// A stranger has so long.
const PATIENCE: Duration = Duration::from_nanos(RPC_HANDSHAKE_NS);
/// Strangers that are turned away are told of in the log so often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Where calls are taken, by which key, and from whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where.
    pub address: SocketAddr,
    cert: PathBuf,
    key: PathBuf,
    token: PathBuf,
    may: May,
}

/// `ADDR:PORT,cert=FILE,key=FILE,token-file=FILE`, with `,read-only` or `,methods=A+B`.
impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Entry, String> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or_default();
        let address = address.parse().map_err(|_| {
            format!("{address:?} is not an address and port, as 192.0.2.1:3270 or [2001:db8::1]:3270")
        })?;
        let (mut cert, mut key, mut token, mut may) = (None, None, None, May::Everything);
        for part in parts {
            let file = match part.split_once('=') {
                Some(("cert", file)) => (&mut cert, file),
                Some(("key", file)) => (&mut key, file),
                Some(("token-file", file)) => (&mut token, file),
                _ if may.limit(part)? => continue,
                _ => {
                    return Err(format!(
                        "{part:?}: cert=FILE, key=FILE, token-file=FILE, and read-only or methods=A+B, are what may follow"
                    ));
                }
            };
            if file.1.is_empty() || file.0.replace(file.1.into()).is_some() {
                return Err(format!("{part:?}: one file is to be named, once"));
            }
        }
        let (Some(cert), Some(key), Some(token)) = (cert, key, token) else {
            return Err("it needs cert=FILE, key=FILE and token-file=FILE: there is no other way in than by TLS and a token".to_owned());
        };
        Ok(Entry { address, cert, key, token, may })
    }
}

/// Why no calls are taken.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A file is of no use.
    #[error("--rpc-tcp: {path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key and the certificate are of no use together.
    #[error("--rpc-tcp: certificate and key: {0}")]
    Tls(rustls::Error),
    /// The address cannot be had.
    #[error("--rpc-tcp {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl EntryError {
    fn of(path: &Path, why: String) -> EntryError {
        EntryError::File { path: path.to_owned(), why }
    }
}

/// What a client has to show. Only its digest is kept.
struct Token([u8; 32]);

impl Token {
    fn of(bytes: &[u8]) -> Token {
        Token(Sha256::digest(bytes).into())
    }

    /// Takes the same time for every other.
    fn is(&self, said: &[u8]) -> bool {
        self.0.ct_eq(&Token::of(said).0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// An address that is listened at and not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    token: Token,
    may: May,
}

impl Bound {
    /// Reads the files and takes the address; port 0 lets the system choose.
    ///
    /// # Errors
    /// What is wrong with them, and what mends it.
    pub fn bind(entry: &Entry) -> Result<Bound, EntryError> {
        let token = token(&entry.token).map_err(|why| EntryError::of(&entry.token, why))?;
        let config = config(entry)?;
        let refused = |source| EntryError::Listen { address: entry.address, source };
        let listener = crate::net::listen::listen(entry.address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Bound { listener, address, config, token, may: entry.may.clone() })
    }

    /// Where, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves it.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn serve(self, context: Arc<Context>) -> io::Result<Server> {
        let Bound { listener, address: _, config, token, may } = self;
        let crowd = Arc::new(Crowd::new()?);
        let lobby = Arc::new(Lobby {
            config,
            token,
            service: Service { context, may },
            crowd: Arc::clone(&crowd),
            told: Mutex::new(None),
        });
        let taken = Arc::clone(&crowd);
        let start = move |(stream, peer)| {
            if let Err(error) = start(stream, peer, &lobby) {
                lobby.tell(peer, &error);
            }
        };
        let accept = move || taken.take_in(&listener, || listener.accept(), start);
        let thread = std::thread::Builder::new().name("rpc-tcp".to_owned()).spawn(accept)?;
        Ok(Server { thread: Some(thread), crowd, _socket: None })
    }
}

/// The key's certificates, for a server.
fn config(entry: &Entry) -> Result<Arc<ServerConfig>, EntryError> {
    let certs = certs(&entry.cert).map_err(|why| EntryError::of(&entry.cert, why))?;
    let key = key(&entry.key).map_err(|why| EntryError::of(&entry.key, why))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, key));
    config.map(Arc::new).map_err(EntryError::Tls)
}

fn certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certs = certs.map_err(|error| format!("it is not PEM: {error}"))?;
    if certs.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(certs)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = closed_file::read(path, KEY_BYTES_MAX)?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("there is no private key in it, as PEM: {error}"))
}

/// A file's token.
fn token(path: &Path) -> Result<Token, String> {
    let text = closed_file::read_secret(path, RPC_TOKEN_BYTES_MAX)?;
    if !(TOKEN_BYTES_MIN..=RPC_TOKEN_BYTES_MAX).contains(&text.len()) {
        return Err(format!(
            "a token has {TOKEN_BYTES_MIN} to {RPC_TOKEN_BYTES_MAX} bytes; 'lunette chap-secret' makes one"
        ));
    }
    if text.iter().any(|&byte| byte == b'\n' || byte == b'\r') {
        return Err("a token is one line".to_owned());
    }
    Ok(Token::of(&text))
}

/// Where strangers wait.
#[derive(Debug)]
struct Lobby {
    config: Arc<ServerConfig>,
    token: Token,
    service: Service,
    crowd: Arc<Crowd>,
    /// When the log was last told of a stranger.
    told: Mutex<Option<Instant>>,
}

impl Lobby {
    /// What peers can cause to be logged is bounded.
    fn tell(&self, peer: SocketAddr, why: &io::Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(%peer, error = %why, "a JSON-RPC client was turned away");
        }
    }
}

/// Gives a connection its thread.
fn start(stream: TcpStream, peer: SocketAddr, lobby: &Arc<Lobby>) -> io::Result<()> {
    // What the listener is, the connection is not; said all the same.
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(number) = lobby.crowd.enter(stream.try_clone()?.into(), true) else { return Ok(()) };
    let kept = Arc::clone(lobby);
    let thread = std::thread::Builder::new().name(format!("rpc-tcp-{number}"));
    let spawned = thread.spawn(move || {
        match welcome(stream, &kept.config, &kept.token, PATIENCE) {
            Ok(mut tls) if kept.crowd.admit(number) => {
                if let Err(error) = serve(&mut tls, &kept.service) {
                    tracing::info!(%peer, %error, "a JSON-RPC connection was closed");
                }
                tls.end();
            }
            Ok(mut tls) => {
                // It may be gone already.
                let _ = tls.write_all(too_many().as_bytes()).and_then(|()| tls.flush());
                tls.end();
            }
            Err(error) => kept.tell(peer, &error),
        }
        kept.crowd.leave(number);
    });
    if spawned.is_err() {
        lobby.crowd.leave(number);
    }
    spawned.map(drop)
}

/// Shakes hands and asks for the token, all within a time.
fn welcome(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    token: &Token,
    patience: Duration,
) -> io::Result<Tls> {
    let due = Instant::now() + patience;
    let conn = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = Tls(StreamOwned::new(conn, Timed { stream, due: Some(due) }));
    let mut said = Vec::new();
    let mut byte = [0];
    loop {
        if tls.0.read(&mut byte)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it showed no token"));
        }
        match byte[0] {
            b'\n' => break,
            _ if said.len() > RPC_TOKEN_BYTES_MAX => break,
            byte => said.push(byte),
        }
    }
    if !token.is(said.strip_suffix(b"\r").unwrap_or(&said)) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it showed another token"));
    }
    tls.0.sock.stream.set_write_timeout(Some(Duration::from_nanos(RPC_SEND_NS)))?;
    tls.0.sock.due = None;
    Ok(tls)
}

/// A connection by TLS.
struct Tls(StreamOwned<ServerConnection, Timed>);

impl Tls {
    /// Says goodbye (RFC 8446 §6.1), to who still listens.
    fn end(&mut self) {
        let _ = self.end_writing();
    }
}

impl Read for Tls {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl Write for Tls {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Line for Tls {
    fn read_within(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.0.sock.due = limit.map(|limit| Instant::now() + limit);
        Ok(())
    }

    fn end_writing(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        self.0.sock.stream.shutdown(Shutdown::Write)
    }
}

/// A socket of which every read ends at a time, however many bytes come one by one.
struct Timed {
    stream: TcpStream,
    due: Option<Instant>,
}

impl Read for Timed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(left)?;
        self.stream.read(to)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::ResolvesServerCertUsingSni;

    use super::*;

    /// Somebody who says this and no more, and what comes of it.
    fn stranger(says: &[u8], patience: Duration) -> io::Error {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        theirs.write_all(says).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        welcome(ours, &Arc::new(config), &Token::of(b"0123456789abcdef"), patience).map(drop).unwrap_err()
    }

    #[test]
    fn who_says_nothing_is_given_up() {
        let patience = Duration::from_millis(20);
        // Nothing, and the beginning of a record of a handshake (RFC 8446 §5.1).
        for says in [&b""[..], &[22, 3, 1, 0, 200, 1]] {
            let gone = stranger(says, patience).kind();
            assert!(matches!(gone, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{gone}");
        }
    }

    #[test]
    fn garbage_is_no_handshake() {
        let patience = Duration::from_secs(300);
        for says in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64], &[22, 3, 1, 0xff, 0xff, 1]] {
            assert_eq!(stranger(says, patience).kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn an_entry_has_three_files_and_no_way_round_them() {
        let entry: Entry = "127.0.0.1:0,cert=c,key=k,token-file=t,read-only".parse().unwrap();
        assert_eq!((entry.cert, entry.key, entry.token), ("c".into(), "k".into(), "t".into()));
        assert!(entry.may.allows("bdev_get_bdevs") && !entry.may.allows("bdev_malloc_create"));
        for wrong in [
            "127.0.0.1:0",
            "127.0.0.1:0,cert=c,key=k",
            "127.0.0.1:0,key=k,token-file=t",
            "127.0.0.1:0,cert=c,key=k,token-file=",
            "127.0.0.1:0,cert=c,cert=d,key=k,token-file=t",
            "127.0.0.1:0,cert=c,key=k,token-file=t,uid=1",
            "127.0.0.1:0,cert=c,key=k,token-file=t,read-only,methods=bdev_get_bdevs",
            "localhost:0,cert=c,key=k,token-file=t",
            "",
        ] {
            assert!(wrong.parse::<Entry>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_compared_whole_and_not_shown() {
        let token = Token::of(b"0123456789abcdef");
        assert!(token.is(b"0123456789abcdef"));
        for other in [&b""[..], b"0", b"0123456789abcdeg", b"0123456789abcdef0"] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
