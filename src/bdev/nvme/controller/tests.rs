//! The machine against a scripted transport, on a clock of the tests' own.

mod bring_up;
mod erase;
mod garbage;
mod lanes;
mod namespaces;
mod recovery;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::Controller;
use super::shared::{Event, Life, Options, Severity, Shared};
use crate::bdev::Wake;
use crate::bdev::nvme::bus::{DeviceAddresses, Mapping};
use crate::bdev::nvme::port::{Port, Reply, Request};
use crate::bdev::nvme::queue::{Payload, Payloads, PushError, Queue};
use crate::bdev::nvme::spec::{Command, Completion, Ended, Status, admin};
use crate::bdev::nvme::transport::{ADMIN_DATA_BYTES, AdminData, Limits, Progress, Transport};
use crate::id::ReactorId;
use crate::time::{MS_NS, SECOND_NS, Tick};

type Page = [u8; ADMIN_DATA_BYTES];

/// What the device does with a command.
#[derive(Clone, Debug)]
enum Act {
    /// As a sound device does.
    Sound,
    /// Nothing.
    Silent,
    /// It ends so, with this result.
    End(u16, u64),
    /// It fills the page so.
    Fill(Box<Page>),
    /// It completes it twice.
    Twice,
    /// It completes another.
    Other,
}

/// Of which commands a rule speaks.
type Which = fn(&Command) -> bool;
/// What is done with those.
type Rule = (Which, Act);

/// A namespace of the device.
#[derive(Clone, Copy, Debug)]
struct Ns {
    id: u32,
    blocks: u64,
    uuid: u8,
}

/// The device behind the transport.
#[derive(Debug)]
struct Device {
    /// What becomes of the next starts; afterwards they succeed.
    starts: VecDeque<Result<(), &'static str>>,
    /// It is quiet when it is started.
    quiets: bool,
    /// A start does not come to an end.
    hangs: bool,
    is_quiet: bool,
    start_count: u32,
    bus_resets: u32,
    is_stopped: bool,
    fault: Option<&'static str>,
    needs_keep_alive: bool,
    /// The latest first.
    rules: Vec<Rule>,
    namespaces: Vec<Ns>,
    queues: u16,
    health: u8,
    has_write_cache: bool,
    power_cycles: u8,
    unsafe_shutdowns: u8,
    /// Entries of its error log that come before the one about a command.
    later_errors: u8,
    /// Commands, as they came.
    seen: Vec<Command>,
    /// Ids of Format NVM, as they came.
    formats: Vec<u16>,
    /// Requests for events that it has.
    events: Vec<u16>,
    done: VecDeque<(Completion, Option<Box<Page>>)>,
    mapped: Vec<usize>,
    forgotten: Vec<u16>,
}

impl Device {
    fn new() -> Device {
        Device {
            starts: VecDeque::new(),
            quiets: true,
            hangs: false,
            is_quiet: true,
            start_count: 0,
            bus_resets: 0,
            is_stopped: false,
            fault: None,
            needs_keep_alive: false,
            rules: Vec::new(),
            namespaces: vec![Ns { id: 1, blocks: 1000, uuid: 0xA1 }],
            queues: 64,
            health: 0,
            has_write_cache: false,
            power_cycles: 7,
            unsafe_shutdowns: 3,
            later_errors: 0,
            seen: Vec::new(),
            formats: Vec::new(),
            events: Vec::new(),
            done: VecDeque::new(),
            mapped: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    fn complete(&mut self, cid: u16, status: u16, result: u64, page: Option<Box<Page>>) {
        let status = Status::from_bits(status);
        self.done.push_back((Completion { result, sq_head: 0, sq_id: 0, cid, status }, page));
    }

    /// Tells of an event, by one of the requests that it has.
    fn tell(&mut self, result: u64) {
        let cid = self.events.pop().expect("a request for events");
        self.complete(cid, 0, result, None);
    }

    fn execute(&mut self, cid: u16, command: &Command) {
        self.seen.push(*command);
        self.formats.extend((command.opcode == admin::FORMAT_NVM).then_some(cid));
        let act = self.rules.iter().rev().find(|(is_it, _)| is_it(command)).map(|(_, act)| act.clone());
        match act.unwrap_or(Act::Sound) {
            Act::Sound => self.sound(cid, command),
            Act::Silent => {}
            Act::End(status, result) => self.complete(cid, status, result, None),
            Act::Fill(page) => self.complete(cid, 0, 0, Some(page)),
            Act::Twice => {
                self.sound(cid, command);
                self.sound(cid, command);
            }
            Act::Other => self.sound(cid ^ 0x8000, command),
        }
    }

    fn sound(&mut self, cid: u16, command: &Command) {
        let mut page = Box::new([0; ADMIN_DATA_BYTES]);
        let [cdw10, ..] = command.cdw10;
        let found = self.namespaces.iter().find(|ns| ns.id == command.nsid).copied();
        match (command.opcode, cdw10 & 0xFF) {
            (admin::ASYNC_EVENT, _) => return self.events.push(cid),
            (admin::SET_FEATURES, 7) => {
                let granted = u64::from(self.queues - 1);
                return self.complete(cid, 0, granted | granted << 16, None);
            }
            (admin::IDENTIFY, 1) => {
                page[4..8].copy_from_slice(b"S123");
                page[24..29].copy_from_slice(b"Model");
                page[92] = 0;
                page[93] = 1; // namespace notices
                page[258] = 1; // two aborts
                page[259] = 3; // four events
                page[261] = 1 << 2; // logs from any offset
                page[262] = 199; // error log
                page[512..514].copy_from_slice(&[0x66, 0x44]);
                page[516] = 8;
                page[525] = u8::from(self.has_write_cache);
            }
            (admin::IDENTIFY, 2) => {
                for (slot, ns) in page.chunks_exact_mut(4).zip(&self.namespaces) {
                    slot.copy_from_slice(&ns.id.to_le_bytes());
                }
            }
            (admin::IDENTIFY, 0) => match found {
                Some(ns) => {
                    page[..8].copy_from_slice(&ns.blocks.to_le_bytes());
                    page[130] = 9;
                }
                None => return self.complete(cid, 0x0B, 0, None),
            },
            (admin::IDENTIFY, 3) => {
                page[..2].copy_from_slice(&[3, 16]);
                page[4..20].fill(found.map_or(0, |ns| ns.uuid));
            }
            (admin::GET_LOG_PAGE, 2) => {
                (page[0], page[112], page[144]) = (self.health, self.power_cycles, self.unsafe_shutdowns);
            }
            (admin::GET_LOG_PAGE, 1) => {
                // Newest first. The oldest, number 9: queue 1, command 5, block 77; those above are about a queue 2.
                let first = command.cdw10[2] / 64;
                for (entry, index) in page.chunks_exact_mut(64).zip(first..) {
                    let Ok(above) = u8::try_from(index) else { break };
                    if above < self.later_errors {
                        let number = 9 + u16::from(self.later_errors - above);
                        entry[..2].copy_from_slice(&number.to_le_bytes());
                        entry[8] = 2;
                    } else if above == self.later_errors {
                        entry[..20]
                            .copy_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 0, 3, 5, 0, 0, 77, 0, 0, 0]);
                    }
                }
            }
            _ => {}
        }
        self.complete(cid, 0, 0, Some(page));
    }
}

/// The transport to a [`Device`].
#[derive(Debug)]
struct Script {
    device: Arc<Mutex<Device>>,
    /// What came with the last completion.
    page: Box<Page>,
}

impl Script {
    fn device(&self) -> std::sync::MutexGuard<'_, Device> {
        self.device.lock().unwrap()
    }
}

impl Transport for Script {
    fn name(&self) -> String {
        "script".to_owned()
    }
    fn start(&mut self, _now: Tick) {
        let mut device = self.device();
        device.start_count += 1;
        device.done.clear();
        device.events.clear();
        device.is_quiet |= device.quiets;
    }
    fn poll_start(&mut self, _now: Tick) -> Progress<Limits> {
        let mut device = self.device();
        if device.hangs {
            return Progress::Pending;
        }
        match device.starts.pop_front().unwrap_or(Ok(())) {
            Ok(()) => {
                device.is_quiet = true;
                Progress::Ready(Limits {
                    entries_max: 1024,
                    version: 0x0001_0400,
                    page_bytes_min: 4096,
                    needs_keep_alive: device.needs_keep_alive,
                })
            }
            Err(why) => Progress::Failed(why.to_owned()),
        }
    }
    fn is_quiet(&self) -> bool {
        self.device().is_quiet
    }
    fn check(&self) -> Result<(), String> {
        self.device().fault.map_or(Ok(()), |fault| Err(fault.to_owned()))
    }
    fn submit(&mut self, cid: u16, command: &Command, _data: AdminData<'_>) -> bool {
        self.device().execute(cid, command);
        true
    }
    fn pop(&mut self, _now: Tick) -> Option<(Completion, Option<&Page>)> {
        let (completion, page) = self.device().done.pop_front()?;
        let has_page = page.is_some();
        self.page = page.unwrap_or_else(|| Box::new([0; ADMIN_DATA_BYTES]));
        Some((completion, has_page.then_some(&*self.page)))
    }
    fn create_commands(&mut self, id: u16, entries: u16) -> Result<Vec<Command>, String> {
        let cdw10 = [u32::from(id) | u32::from(entries - 1) << 16, 0, 0, 0, 0, 0];
        let command = |opcode| Command { opcode, cdw10, ..Command::default() };
        Ok(vec![command(admin::CREATE_CQ), command(admin::CREATE_SQ)])
    }
    fn poll_queue(&mut self, id: u16, _entries: u16, _now: Tick) -> Progress<Box<dyn Queue + Send>> {
        self.device().is_quiet = false;
        Progress::Ready(Box::new(ScriptQueue(id)))
    }
    fn delete_commands(&mut self, id: u16) -> Vec<Command> {
        let command =
            |opcode| Command { opcode, cdw10: [u32::from(id), 0, 0, 0, 0, 0], ..Command::default() };
        vec![command(admin::DELETE_SQ), command(admin::DELETE_CQ)]
    }
    fn forget_queue(&mut self, id: u16) {
        self.device().forgotten.push(id);
    }
    fn map(&mut self, base: usize, bytes: usize) -> Result<Option<Mapping>, String> {
        let mut device = self.device();
        if device.mapped.contains(&base) {
            return Err("mapped twice".to_owned());
        }
        device.mapped.push(base);
        Ok(Some(Mapping { base, bytes, device: DeviceAddresses::Contiguous(0) }))
    }
    fn unmap(&mut self, mapping: &Mapping) {
        self.device().mapped.retain(|base| *base != mapping.base);
    }
    fn stop(&mut self, _now: Tick) {
        self.device().is_stopped = true;
    }
    fn poll_stop(&mut self, _now: Tick) -> Progress<()> {
        self.device().is_quiet = true;
        Progress::Ready(())
    }
    fn reset_bus(&mut self) -> Result<(), String> {
        self.device().bus_resets += 1;
        Ok(())
    }
}

/// A transport to a device that works, or to none.
pub(crate) fn script(has_device: bool) -> Box<dyn Transport> {
    let mut device = Device::new();
    if !has_device {
        device.starts.push_back(Err("connection refused"));
    }
    Box::new(Script { device: Arc::new(Mutex::new(device)), page: Box::new([0; ADMIN_DATA_BYTES]) })
}

#[derive(Debug)]
struct ScriptQueue(u16);

impl Queue for ScriptQueue {
    fn id(&self) -> u16 {
        self.0
    }

    fn depth(&self) -> u16 {
        1
    }
    fn bytes_max(&self) -> usize {
        4096
    }
    fn push(&mut self, _: u16, _: u16, _: &Command, _: Payload<'_>) -> Result<(), PushError> {
        Err(PushError::Broken)
    }
    fn ring(&mut self, _: &mut dyn Payloads) {}
    fn pop(&mut self, _: &mut dyn Payloads, _: Tick) -> Option<Ended> {
        None
    }
    fn acknowledge(&mut self) {}
    fn learn(&mut self, _: Mapping) {}
    fn fault(&self) -> Option<&'static str> {
        None
    }
    fn wake(&self) -> Wake {
        Wake::Idle
    }
}

/// A machine, its device, its clock, and all that it told.
struct Bench {
    device: Arc<Mutex<Device>>,
    shared: Arc<Shared>,
    told: Arc<Mutex<Vec<String>>>,
    controller: Controller,
    now: Tick,
}

impl Bench {
    fn new(device: Device) -> Bench {
        Bench::with(device, Options::pcie("n0".to_owned(), 4))
    }

    fn with(device: Device, options: Options) -> Bench {
        let device = Arc::new(Mutex::new(device));
        let shared = Arc::new(Shared::new());
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let hook = move |event| {
            let words = match event {
                Event::Attached(disk) => format!("attached {}", disk.nsid),
                Event::Resized(disk) => format!("resized {}", disk.nsid),
                Event::Removed(disk) => format!("removed {}", disk.nsid),
                Event::Lost => "lost".to_owned(),
                Event::Recovered => "recovered".to_owned(),
                Event::Gone => "gone".to_owned(),
                Event::Said(severity, words) => format!("{severity:?}: {words}"),
            };
            log.lock().unwrap().push(words);
        };
        let script = Script { device: Arc::clone(&device), page: Box::new([0; ADMIN_DATA_BYTES]) };
        let (its, now) = (Arc::clone(&shared), Tick::ZERO);
        let controller = Controller::new(Box::new(script), options, its, Arc::new(hook), now);
        Bench { device, shared, told, controller, now }
    }

    /// A bench whose controller works.
    fn running() -> Bench {
        let mut bench = Bench::new(Device::new());
        bench.run(SECOND_NS);
        assert_eq!(bench.shared.life(), Life::Running);
        bench.told.lock().unwrap().clear();
        bench
    }

    fn device(&self) -> std::sync::MutexGuard<'_, Device> {
        self.device.lock().unwrap()
    }

    /// How often it was reset, and from outside.
    fn resets(&self) -> (u32, u32) {
        let device = self.device();
        (device.start_count, device.bus_resets)
    }

    /// Polls as the thread does, for so long.
    fn run(&mut self, ns: u64) {
        let until = self.now.after_ns(ns);
        let mut at_once = 0;
        while self.now <= until {
            let next = self.controller.poll(self.now);
            at_once = if next <= self.now { at_once + 1 } else { 0 };
            assert!(at_once < 10_000, "it never rests");
            if next > until {
                break;
            }
            self.now = self.now.max(next);
        }
        self.now = until;
    }

    /// A lane that wants a pair.
    fn lane(&mut self, reactor: u16) -> Arc<Port> {
        let port = Arc::new(Port::new(ReactorId(reactor), Arc::new(|| ())));
        self.shared.register(Arc::clone(&port));
        port.ask(Request::Open).unwrap();
        port
    }

    /// The opcodes of the commands since the last call, requests for events aside.
    fn opcodes(&self) -> Vec<u8> {
        let seen = std::mem::take(&mut self.device().seen);
        seen.iter().map(|command| command.opcode).filter(|opcode| *opcode != admin::ASYNC_EVENT).collect()
    }

    /// What was told since the last call: events, and lines of that severity and above.
    fn told(&self, least: Severity) -> Vec<String> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let hidden = |words: &String| {
            words.starts_with("Info") && least > Severity::Info
                || words.starts_with("Warn") && least > Severity::Warn
        };
        told.into_iter().filter(|words| !hidden(words)).collect()
    }

    /// Events alone.
    fn events(&self) -> Vec<String> {
        let told = self.told(Severity::Error);
        told.into_iter().filter(|words| !words.starts_with("Error")).collect()
    }
}

/// A lane's next answer is a pair; its number.
fn opened(port: &Port) -> Box<dyn Queue + Send> {
    match port.reply() {
        Some(Reply::Opened(queue)) => queue,
        other => panic!("{other:?}"),
    }
}

fn is_identify(command: &Command, cns: u32) -> bool {
    command.opcode == admin::IDENTIFY && command.cdw10[0] == cns
}
