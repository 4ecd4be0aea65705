//! Sessions of iSCSI: what a portal offers, and many logins at a time.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use lunette_initiator::login::{Login, Step};
use lunette_initiator::pdu::{Deframer, Digests};
use lunette_initiator::socket::{SocketError, TIMEOUT};
use lunette_initiator::{Auth, Chap, Client, Config, Offer, Serial, lun};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::aim::Unit;
use crate::conn::Terms;
use crate::error::LoadError;
use crate::options::Options;

/// Logins at a time: a target need not take more at once than this.
const LOGINS_MAX: usize = 64;

/// A connection that is ready for commands, and what came behind its last login response.
pub type Ready = (TcpStream, Terms, Vec<u8>);

/// The session that `options` asks for.
///
/// # Errors
/// The secret cannot be read, or the portal has not exactly one target and none was named.
pub fn config(options: &Options) -> Result<Config, LoadError> {
    let mut offer = Offer::with_digests(options.header_digest, options.data_digest);
    // A window of R2Ts: a solicited IO may be more than one burst.
    offer.max_outstanding_r2t = Some(8);
    if options.no_immediate {
        offer.immediate_data = Some(false);
        offer.initial_r2t = Some(true);
    }
    let auth = match (&options.chap_user, &options.chap_secret_file) {
        (Some(user), Some(path)) => {
            let mut secret =
                fs::read(path).map_err(|error| LoadError::Secret { path: path.clone(), error })?;
            while secret.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
            Auth::Chap(Chap::new(user, &secret))
        }
        _ => Auth::None,
    };
    let name = options.target.as_deref().unwrap_or_default();
    let config =
        Config { offer, auth, lenient: true, isid: isid(u16::MAX), ..Config::new(&options.initiator, name) };
    if options.target.is_some() {
        return Ok(config);
    }
    let discovery = Config { target_name: None, ..config.clone() };
    let found = Client::discover(options.portal, discovery)
        .map_err(|error| LoadError::Target { what: "discovery (--target skips it)".to_owned(), error })?;
    let named = found.into_iter().filter(|(key, _)| key == "TargetName");
    let names: Vec<String> = named.map(|(_, name)| name).collect();
    match &names[..] {
        [name] => Ok(Config { target_name: Some(name.clone()), ..config }),
        [] => Err(LoadError::Usage(format!("{} has no target for {}", options.portal, options.initiator))),
        _ => {
            let list = names.join(", ");
            Err(LoadError::Usage(format!("--target: {} has more than one: {list}", options.portal)))
        }
    }
}

/// The session's part of an ISID in the "random" format (RFC 7143 §11.12.5): this process, and a number.
fn isid(number: u16) -> [u8; 6] {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let [high, low] = number.to_be_bytes();
    [0x80, a, b, c, high, low]
}

/// Asks the target for the sizes of its logical units, in a session of its own.
///
/// # Errors
/// The target, or sizes that do not suit.
pub fn units(options: &Options, config: &Config) -> Result<Vec<Unit>, LoadError> {
    let failed = |what: String| move |error| LoadError::Target { what, error };
    let mut client = Client::connect(options.portal, config.clone()).map_err(failed("login".to_owned()))?;
    let mut units = Vec::new();
    for &number in &options.luns {
        client.set_lun(lun::from_number(number));
        let capacity = client.capacity().map_err(failed(format!("capacity of LUN {number}")))?;
        units.push(Unit::new(number, capacity, options.bs, options.span).map_err(LoadError::Usage)?);
    }
    // The sizes are known, and the load does not need this session: istgt counts the immediate logout as a command.
    let _ = client.logout();
    Ok(units)
}

/// Logs in `count` sessions, many at a time. They come back in order.
///
/// # Errors
/// The first that fails.
pub fn log_in(address: SocketAddr, config: &Config, count: u32) -> Result<Vec<Ready>, LoadError> {
    let mut ready = Vec::with_capacity(count as usize);
    let mut numbers = (0..=u16::MAX).take(count as usize).peekable();
    let mut started: Vec<Attempt> = Vec::new();
    loop {
        while started.len() < LOGINS_MAX
            && let Some(number) = numbers.next()
        {
            started.push(Attempt::start(address, config, number).map_err(|error| failed(number, error))?);
        }
        if started.is_empty() {
            ready.sort_by_key(|(number, _)| *number);
            return Ok(ready.into_iter().map(|(_, ready)| ready).collect());
        }
        wait(&started)?;
        let mut index = 0;
        while let Some(attempt) = started.get_mut(index) {
            match attempt.advance().map_err(|error| failed(attempt.number, error))? {
                Some(terms) => {
                    let Attempt { number, stream, received, .. } = started.swap_remove(index);
                    ready.push((number, (stream, terms, received)));
                }
                None => index += 1,
            }
        }
    }
}

fn failed(number: u16, error: SocketError) -> LoadError {
    LoadError::Target { what: format!("login of session {number}"), error }
}

fn wait(attempts: &[Attempt]) -> Result<(), LoadError> {
    let mut fds: Vec<PollFd<'_>> =
        attempts.iter().map(|attempt| PollFd::new(&attempt.stream, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Err(failed(attempts[0].number, SocketError::Timeout)),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(LoadError::Io(errno.into())),
        }
    }
}

/// A login on its way. Requests are small enough to be sent at once.
#[derive(Debug)]
struct Attempt {
    number: u16,
    stream: TcpStream,
    login: Login,
    /// Received and not looked at.
    received: Vec<u8>,
    cmd_sn: u32,
}

impl Attempt {
    fn start(address: SocketAddr, config: &Config, number: u16) -> Result<Self, SocketError> {
        let stream = connect(address)?;
        let config = Config { isid: isid(number), ..config.clone() };
        let (login, first) = Login::start(&config);
        let mut bytes = Vec::new();
        first.encode(Digests::default(), &mut bytes);
        (&stream).write_all(&bytes)?;
        stream.set_nonblocking(true)?;
        Ok(Self { number, stream, login, received: Vec::new(), cmd_sn: config.cmd_sn })
    }

    fn advance(&mut self) -> Result<Option<Terms>, SocketError> {
        let mut buffer = [0; 16 << 10];
        match (&self.stream).read(&mut buffer) {
            Ok(0) => return Err(SocketError::Closed),
            Ok(bytes) => self.received.extend_from_slice(&buffer[..bytes]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        loop {
            let mut rest = &self.received[..];
            let mut deframer = Deframer::new(0xff_ffff);
            let pdu = deframer.next(&mut rest).map_err(|error| SocketError::Unexpected(error.to_string()))?;
            let Some(pdu) = pdu.map(|pdu| pdu.to_pdu()) else { return Ok(None) };
            let used = self.received.len() - rest.len();
            self.received.drain(..used);
            match self.login.respond(&pdu.as_view())? {
                Step::Send(request) => {
                    let mut bytes = Vec::new();
                    request.encode(Digests::default(), &mut bytes);
                    (&self.stream).write_all(&bytes)?;
                }
                Step::Done(outcome) => {
                    let cmd_sn = Serial(self.cmd_sn);
                    let (max_cmd_sn, exp_stat_sn) = (outcome.max_cmd_sn, outcome.exp_stat_sn);
                    return Ok(Some(Terms::new(&outcome.params, cmd_sn, max_cmd_sn, exp_stat_sn)));
                }
            }
        }
    }
}

/// Connects as all connections here do: small writes are sent at once.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
