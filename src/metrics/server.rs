//! The HTTP side (RFC 9110): GET of three paths and nothing else, one request a connection.
//!
//! It has one thread, on which a runtime turns; reactors know nothing of it, and control is asked at most five times a second,
//! however many ask. Heads, connections and times are bounded. There is no login and nothing is encrypted: it is for
//! loopback or a network of operators' own.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, oneshot};

use super::sample::Sample;
use super::{families, status};
use crate::control::thread::Remote;
use crate::rpc::context::Context;

/// Connections at once; more wait until one of them is over.
const CONNS_MAX: usize = 64;
/// The head of a request: more is answered with 431.
const HEAD_BYTES_MAX: usize = 8192;
/// A head that is not there by then never comes.
const HEAD_PATIENCE: Duration = Duration::from_secs(3);
/// A connection is over by then, whatever its client does.
const PATIENCE: Duration = Duration::from_secs(10);
/// What was seen is shown to everybody who asks within so long.
const FRESH: Duration = Duration::from_millis(200);
/// When nothing can be accepted (no descriptors), the next try comes after so long.
const RETRY: Duration = Duration::from_millis(100);

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has the address.
    #[error("--metrics {0}: another program listens there; choose another port, or end that one")]
    InUse(SocketAddr),
    /// It is none of this machine's.
    #[error("--metrics {0}: this machine has no such address; 'ip address' lists those it has")]
    NotOurs(SocketAddr),
    /// A low port.
    #[error("--metrics {0}: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one")]
    Forbidden(SocketAddr),
    /// Anything else.
    #[error("--metrics {address}: {source}")]
    Io {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// An address that is listened at and not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

fn url(address: SocketAddr) -> Option<String> {
    let ip = address.ip().to_canonical();
    let is_of_a_link = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let is_somewhere = !ip.is_unspecified() && !ip.is_loopback() && !is_of_a_link;
    is_somewhere.then(|| format!("http://{}/", SocketAddr::new(ip, address.port())))
}

impl Bound {
    /// Takes an address; port 0 lets the system choose.
    ///
    /// # Errors
    /// What the system has against it, and what to do.
    pub fn bind(address: SocketAddr) -> Result<Bound, BindError> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            io::ErrorKind::AddrNotAvailable => BindError::NotOurs(address),
            io::ErrorKind::PermissionDenied => BindError::Forbidden(address),
            _ => BindError::Io { address, source },
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Bound { listener, address })
    }

    /// Takes a socket that somebody else has bound and keeps.
    ///
    /// # Errors
    /// The system has something against it.
    pub fn handed_over(listener: TcpListener) -> Result<Bound, BindError> {
        let unknown = SocketAddr::from(([0; 4], 0));
        let refused = |source: io::Error| BindError::Io { address: unknown, source };
        let address = listener.local_addr().map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        Ok(Bound { listener, address })
    }

    /// Where, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where hosts find the status page; none where the address says nothing to others: any, loopback, or one of a link.
    pub fn url(&self) -> Option<String> {
        url(self.address)
    }

    /// Shows what `source` sees.
    ///
    /// # Errors
    /// No thread, or no descriptors.
    pub fn serve(self, source: Lookout) -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel::<()>();
        let run = move || {
            runtime.spawn(accept(self.listener, Arc::new(source)));
            // It says nothing: its other end is dropped.
            let _ = runtime.block_on(ended);
        };
        std::thread::Builder::new().name("metrics".to_owned()).spawn(run)?;
        Ok(Server { _end: end })
    }
}

/// It is served until this is dropped.
#[derive(Debug)]
pub struct Server {
    _end: oneshot::Sender<()>,
}

/// What is shown.
pub struct Lookout {
    control: Remote,
    /// Where calls are made, if anywhere.
    context: Option<Arc<Context>>,
    last: Mutex<Option<(Instant, Arc<Sample>)>>,
}

impl fmt::Debug for Lookout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookout").finish_non_exhaustive()
    }
}

impl Lookout {
    /// A daemon that will run, and where it takes calls.
    pub fn new(control: Remote, context: Option<Arc<Context>>) -> Lookout {
        Lookout { control, context, last: Mutex::new(None) }
    }

    /// What there is now, or was a moment ago; none once the daemon has stopped.
    fn look(&self) -> Option<Arc<Sample>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, sample)) = &*last
            && at.elapsed() < FRESH
        {
            return Some(Arc::clone(sample));
        }
        let sample = self.control.call(|control, now| Sample::take(control, now))?;
        let calls = self.context.as_ref().map(|context| context.calls.list()).unwrap_or_default();
        let sample = sample.with_calls(calls);
        *last = Some((Instant::now(), Arc::clone(&sample)));
        Some(sample)
    }
}

async fn accept(listener: TcpListener, source: Arc<Lookout>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "metrics are not shown"),
    };
    let slots = Arc::new(Semaphore::new(CONNS_MAX));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    converse(stream, source).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn converse(stream: tokio::net::TcpStream, source: Arc<Lookout>) {
    let service = service_fn(move |request| {
        let response = answer(&request, &source);
        async move { Ok::<_, Infallible>(response) }
    });
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Who goes away, says nonsense or takes too long has nobody to complain to.
    let _ = tokio::time::timeout(PATIENCE, conn).await;
}

const TEXT: &str = "text/plain; charset=utf-8";
const STOPPED: &str = "the daemon has stopped\n";

fn answer<B>(request: &Request<B>, source: &Lookout) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "this is for reading only: GET\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => match source.look().map(|sample| families::text(&sample)) {
            Some(Ok(text)) => respond(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Some(Err(error)) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            None => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, STOPPED),
        },
        "/status.json" => match source.look() {
            Some(sample) => {
                respond(StatusCode::OK, "application/json", status::document(&sample).to_string())
            }
            None => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, STOPPED),
        },
        "/" => page(),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "there are /, /status.json and /metrics\n"),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const PAGE: &str = include_str!("page.html");

/// The page, which may load nothing and run only what it came with (Content Security Policy Level 3).
fn page() -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(inside(PAGE, "script")),
        hash(inside(PAGE, "style")),
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// What is inside the first element of this name, which has no attributes.
fn inside<'a>(page: &'a str, element: &str) -> &'a str {
    let behind = page.split_once(&format!("<{element}>")).map_or("", |(_, behind)| behind);
    behind.split_once(&format!("</{element}>")).map_or("", |(inside, _)| inside)
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_url_is_told_where_others_can_use_it() {
        for (address, want) in [
            ("192.0.2.1:9100", Some("http://192.0.2.1:9100/")),
            ("[2001:db8::1]:80", Some("http://[2001:db8::1]:80/")),
            ("[::ffff:192.0.2.1]:80", Some("http://192.0.2.1:80/")),
            ("0.0.0.0:80", None),
            ("[::]:80", None),
            ("127.0.0.2:80", None),
            ("[::1]:80", None),
            ("[::ffff:127.0.0.1]:80", None),
            ("169.254.1.1:80", None),
            ("[fe80::1]:80", None),
        ] {
            assert_eq!(url(address.parse().unwrap()).as_deref(), want, "{address}");
        }
    }

    #[test]
    fn the_page_runs_and_loads_nothing_but_itself() {
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert_eq!(PAGE.matches("<style").count(), 1);
        assert!(inside(PAGE, "script").contains("status.json") && inside(PAGE, "style").contains("dark"));
        for attribute in [" style=", " onclick=", " onload=", "http://", "https://", "innerHTML", "eval("] {
            let told = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!told.contains(attribute), "{attribute}");
        }
        let policy = page().headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    }

    #[test]
    fn hashes_are_as_the_policy_wants_them() {
        // FIPS 180-4, the empty message.
        assert_eq!(hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn an_address_that_is_taken_says_what_to_do() {
        let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address();
        assert_ne!(address.port(), 0);
        let error = Bound::bind(address).unwrap_err().to_string();
        let expected = format!(
            "--metrics {address}: another program listens there; choose another port, or end that one"
        );
        assert_eq!(error, expected);
        let foreign = Bound::bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(matches!(foreign, BindError::NotOurs(_)), "{foreign}");
    }
}
