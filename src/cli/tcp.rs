//! Calls to a daemon on another machine: `tcp://HOST:PORT` in the place of a socket's path, by TLS and with a token (`serve --rpc-tcp`).
//!
//! `LUNETTE_CA_FILE` names the certificates that are trusted, `LUNETTE_TOKEN_FILE` the token's file: on the command line everybody would
//! see it.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Failed;
use crate::closed_file;
use crate::limits::RPC_TOKEN_BYTES_MAX;

const TOKEN: &str = "LUNETTE_TOKEN_FILE";
const CA: &str = "LUNETTE_CA_FILE";
/// A machine that does not answer is given up after so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection whose token has been sent.
pub(super) type Conn = StreamOwned<ClientConnection, TcpStream>;

/// Connects to `HOST:PORT`.
pub(super) fn connect(place: &str) -> Result<Conn, Failed> {
    let host = place.rsplit_once(':').map(|(host, _)| host.trim_start_matches('[').trim_end_matches(']'));
    let host = host.filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| Failed::usage(format!("tcp://{place}: it is to be tcp://HOST:PORT")))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failed::usage(format!("tcp://{place}: {host:?} is neither a name nor an address")))?;
    let (token, roots) =
        (token(&named(TOKEN, "the token's file")?)?, roots(&named(CA, "the certificates to trust")?)?);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failed::failure)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let conn = ClientConnection::new(Arc::new(config), name).map_err(Failed::failure)?;
    let unreachable = |error: io::Error| Failed::NoDaemon(format!("tcp://{place}: {error}"));
    let addresses: Vec<_> = place.to_socket_addrs().map_err(unreachable)?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return greet(StreamOwned::new(conn, stream), &token, place),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

fn greet(mut conn: Conn, token: &[u8], place: &str) -> Result<Conn, Failed> {
    let failed = |error: io::Error| Failed::failure(format!("tcp://{place}: {error}"));
    conn.sock.set_nodelay(true).map_err(failed)?;
    conn.sock.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    conn.write_all(token).and_then(|()| conn.write_all(b"\n")).and_then(|()| conn.flush()).map_err(failed)?;
    // A call may take long.
    conn.sock.set_read_timeout(None).map_err(failed)?;
    Ok(conn)
}

/// A file that the environment names.
fn named(variable: &str, what: &str) -> Result<PathBuf, Failed> {
    let named = std::env::var_os(variable).filter(|named| !named.is_empty());
    named.map(PathBuf::from).ok_or_else(|| {
        Failed::usage(format!("calls over TCP need {what}: name it by {variable}=FILE in the environment"))
    })
}

fn token(path: &Path) -> Result<Vec<u8>, Failed> {
    closed_file::read_secret(path, RPC_TOKEN_BYTES_MAX)
        .map_err(|why| Failed::failure(format!("{}: {why}", path.display())))
}

fn roots(path: &Path) -> Result<RootCertStore, Failed> {
    let failed = |why: String| Failed::failure(format!("{}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&text) {
        let cert = cert.map_err(|error| failed(format!("it is not PEM: {error}")))?;
        roots.add(cert).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}
