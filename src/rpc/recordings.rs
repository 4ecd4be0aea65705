//! What connections have recorded, in files: of those that somebody asks for, and of those on which something went wrong.
//!
//! The latter go into one folder, a file each, and no more files than were agreed on: the oldest are removed. A thread of its own
//! writes them; a reactor hands out its next recording only when the last one is written and a moment has gone by.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::context::{Context, lock};
use super::fault::Fault;
use super::json::{Json, object};
use crate::capture::{Conversation, pcapng};
use crate::control::looks::{HandedOut, Parties};
use crate::control::thread::Remote;
use crate::id::{ReactorId, SessionId};
use crate::reactor::look::{Look, Recording, Recordings};
use crate::time::Tick;

/// Files of ours begin and end with this.
const PREFIX: &str = "lunette-";
const SUFFIX: &str = ".pcapng";
/// So many stay, unless the operator says otherwise.
pub(super) const FILES_MAX: u32 = 16;
/// Between two recordings of one reactor.
const PACE: Duration = Duration::from_secs(1);

/// Where recordings go when something goes wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) files_max: u32,
}

/// The folder that a call has set, where there is one.
#[derive(Debug, Default)]
pub(super) struct Keep(Mutex<Option<Folder>>);

impl Keep {
    /// The call that a file has for it.
    pub(super) fn call(&self) -> Option<Json> {
        let folder = lock(&self.0).clone()?;
        let params = object! {
            "directory": folder.path.to_string_lossy().into_owned(),
            "files_max": folder.files_max,
        };
        Some(object! { "method": "lunette_recorder_set_options", "params": params })
    }
}

/// Recordings go into `folder` from now on, or nowhere; and after the next start. Nothing else is to wait for a folder that a
/// file tells of and that is not there.
pub(super) fn set(context: &Context, folder: Option<Folder>) -> Result<(), Fault> {
    if let Some(folder) = &folder
        && let Err(error) = probe(&folder.path)
    {
        let path = folder.path.display();
        if !context.is_loading() {
            return Err(Fault::params(format_args!("directory: {path}: {error}")));
        }
        tracing::warn!(%error, directory = %path, "recordings are lost until it can be written to");
    }
    begin(context, folder.clone())?;
    *lock(&context.recordings.0) = folder;
    Ok(())
}

/// The same until the daemon stops: no file tells of it.
pub(super) fn set_for_now(context: &Context, folder: Folder) -> Result<(), Fault> {
    let probed = probe(&folder.path);
    probed.map_err(|error| Fault::params(format_args!("{}: {error}", folder.path.display())))?;
    begin(context, Some(folder))
}

/// Whether a folder can be written to is found out before it is needed.
fn probe(folder: &Path) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{PREFIX}probe-{}-{number}", std::process::id()));
    // A process of the same number may have been killed here.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create(&path)?;
    std::fs::remove_file(&path)
}

fn begin(context: &Context, folder: Option<Folder>) -> Result<(), Fault> {
    let Some(folder) = folder else {
        return context.control(|control, _| control.hand_out_recordings(None));
    };
    let (to, handed_out) = mpsc::channel::<HandedOut>();
    let remote = context.remote();
    let run = move || {
        // It ends when another folder is set, or none.
        for one in handed_out {
            let reactor = one.reactor;
            if let Err(error) = keep(&folder, &one, &remote) {
                tracing::warn!(%error, directory = %folder.path.display(), "a recording cannot be written");
            }
            std::thread::sleep(PACE);
            if remote.call(move |control, _| control.spare_recorder(reactor)).is_none() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("recordings".to_owned()).spawn(run).map_err(Fault::internal)?;
    context.control(move |control, _| control.hand_out_recordings(Some(to)))
}

/// Writes a recording that was handed out.
fn keep(folder: &Folder, one: &HandedOut, remote: &Remote) -> io::Result<()> {
    let Some(epoch_ns) = epoch_ns(remote) else { return Ok(()) };
    let HandedOut { recording, parties, why, at, .. } = one;
    let file = pcapng(&[conversation(recording, parties, Some(why))], epoch_ns);
    let moment = Timestamp::from_nanosecond(i128::from(epoch_ns) + i128::from(at.ns())).unwrap_or_default();
    let name = format!(
        "{PREFIX}{}-s{}-c{}{SUFFIX}",
        moment.strftime("%Y%m%dT%H%M%S%6fZ"),
        recording.session.0,
        recording.cid
    );
    let mut ours: Vec<PathBuf> = std::fs::read_dir(&folder.path)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|name| is_ours(&name.to_string_lossy())))
        .collect();
    // By name they are in the order of time.
    ours.sort();
    let keep_count = usize::try_from(folder.files_max).unwrap_or(usize::MAX).saturating_sub(1);
    for path in ours.iter().take(ours.len().saturating_sub(keep_count)) {
        std::fs::remove_file(path)?;
    }
    write(&folder.path.join(name), &file)
}

fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Writes a file that was not there. Others cannot read it: who talks to whom is nobody's business.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// When the process's time began, in nanoseconds since 1970; none where the daemon has stopped.
pub(super) fn epoch_ns(remote: &Remote) -> Option<u64> {
    let now = remote.call(|_, now: Tick| now)?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_sub(now.ns()))
}

/// How many connections and PDUs there are, and the file of them.
pub(super) struct Dump {
    pub(super) connections: usize,
    pub(super) pdus: usize,
    pub(super) file: Vec<u8>,
}

/// What all connections, or those of a session, have recorded.
pub(super) fn dump(context: &Context, session: Option<SessionId>) -> Result<Dump, Fault> {
    let epoch_ns = epoch_ns(&context.remote()).ok_or_else(Fault::stopped)?;
    let mut found: Vec<(Recording, Parties)> = Vec::new();
    for reactor in context.control(|control, _| control.running())? {
        let mut from = Some(0);
        while let Some(slot) = from.take() {
            let Some(Look::Recordings(answer)) =
                ask(context, reactor, Look::Recordings(Recordings::new(session, slot)))?
            else {
                break;
            };
            from = answer.next();
            let recordings = answer.found;
            let named = context.control(move |control, _| {
                let parties = |one: Recording| Some((control.parties(one.session, one.cid)?, one));
                recordings.into_iter().filter_map(parties).collect::<Vec<_>>()
            })?;
            found.extend(named.into_iter().map(|(parties, recording)| (recording, parties)));
        }
    }
    let conversations: Vec<_> = found.iter().map(|(one, parties)| conversation(one, parties, None)).collect();
    Ok(Dump {
        connections: found.len(),
        pdus: found.iter().map(|(one, _)| one.recorder.pdus().count()).sum(),
        file: pcapng(&conversations, epoch_ns),
    })
}

/// Asks a reactor and waits; none where it has stopped.
pub(super) fn ask(context: &Context, reactor: ReactorId, look: Look) -> Result<Option<Look>, Fault> {
    let (answer, answered) = mpsc::sync_channel(1);
    // Who asked may have gone.
    let then = move |look| drop(answer.send(look));
    context.control(move |control, _| control.ask_reactor(reactor, look, then))?;
    Ok(answered.recv().ok())
}

fn conversation<'a>(recording: &'a Recording, parties: &Parties, why: Option<&str>) -> Conversation<'a> {
    let Recording { session, cid, header_digest, data_digest, ref recorder } = *recording;
    let why = why.map(|why| format!("; {why}")).unwrap_or_default();
    let lost = recorder.lost_count();
    Conversation {
        name: format!("session {} connection {cid}", session.0),
        about: format!("{} with {}; {lost} PDUs before these{why}", parties.initiator, parties.target),
        initiator: parties.peer,
        target: parties.local,
        header_digest,
        data_digest,
        recorder,
    }
}
