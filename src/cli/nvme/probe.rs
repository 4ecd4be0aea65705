//! `lunette nvme probe`: the driver's transport and queues at one controller, with nothing above them.
//!
//! It asks, reads, and writes nothing. The hash is of the beginning of each namespace, read in commands of every length and alignment
//! that a PRP list is about; whoever reads the same bytes in another way can compare it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Args;
use sha2::{Digest, Sha256};

use crate::bdev::nvme::pci::device::Address;
use crate::bdev::nvme::pci::{self, PciTransport, sysfs};
use crate::bdev::nvme::queue::{NoPayloads, Payload, Queue};
use crate::bdev::nvme::spec::identify::{self, Controller, Namespace, cns};
use crate::bdev::nvme::spec::{Command, Ended, admin, extent_words, nvm};
use crate::bdev::nvme::transport::{ADMIN_DATA_BYTES, AdminData, Limits, Progress, Transport};
use crate::buf::{Buf, Class, Hugepages, Memory, Pool};
use crate::cli::Failed;
use crate::time::Tick;

/// `lunette nvme probe`.
#[derive(Clone, Debug, Args)]
pub(super) struct Probe {
    /// Where the controller is: 0000:01:00.0
    address: String,
    /// Use it without an IOMMU: it can then overwrite any memory of this machine
    #[arg(long)]
    unsafe_noiommu: bool,
    /// Then watch it for so long, and fail as soon as it fails
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    watch: u64,
}

/// What is hashed of a namespace, at most.
const HASHED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Entries of the IO queue.
const ENTRIES: u16 = 16;
/// How long a command may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);
/// Set Features: number of queues.
const NUMBER_OF_QUEUES: u32 = 7;

type Page = [u8; ADMIN_DATA_BYTES];
type Said<T> = Result<T, String>;

pub(super) fn probe(args: &Probe) -> Result<String, Failed> {
    let (address, transport) = open(&args.address, args.unsafe_noiommu)?;
    let mut probing = Probing { transport, began: Instant::now(), said: String::new() };
    probing
        .run(Duration::from_secs(args.watch))
        .map_err(|why| Failed::failure(format!("{}{address}: {why}", probing.said)))?;
    Ok(probing.said)
}

/// The controller at an address, with a warning where nothing keeps it from this machine's memory.
pub(super) fn open(address: &str, unsafe_noiommu: bool) -> Result<(Address, PciTransport), Failed> {
    let parsed = Address::parse(address)
        .ok_or_else(|| Failed::usage(format!("{address} is no PCI address, such as 0000:01:00.0")))?;
    if unsafe_noiommu {
        say(sysfs::WARNING);
    }
    let transport = pci::open(parsed, unsafe_noiommu, &pci::Groups::default()).map_err(Failed::failure)?;
    Ok((parsed, transport))
}

#[expect(clippy::print_stderr, reason = "the command's own voice")]
pub(super) fn say(words: &str) {
    eprintln!("lunette: {words}");
}

struct Probing {
    transport: PciTransport,
    began: Instant,
    said: String,
}

impl Probing {
    fn now(&self) -> Tick {
        Tick::from_ns(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.said, "{line}");
    }

    fn run(&mut self, watch: Duration) -> Said<()> {
        self.transport.start(self.now());
        let limits = self.wait(|transport, now| transport.poll_start(now))?;
        let Limits { entries_max, version, .. } = limits;
        self.say(format_args!(
            "version {}.{}, {entries_max} entries per queue",
            version >> 16,
            version >> 8 & 0xFF
        ));
        let controller = Controller::decode(&self.identify(cns::CONTROLLER, 0)?);
        self.say(format_args!(
            "model {:?}, serial {:?}, firmware {:?}, MDTS {}, ONCS {:#x}, OACS {:#x}",
            controller.model,
            controller.serial,
            controller.firmware,
            controller.mdts,
            controller.oncs,
            controller.oacs
        ));
        if controller.oacs & identify::oacs::DOORBELL_BUFFER != 0 {
            self.admin(&Command { opcode: admin::DOORBELL_BUFFER, ..Command::default() }, AdminData::None)?;
            self.say(format_args!("doorbells in memory"));
        }
        let one_pair = Command {
            opcode: admin::SET_FEATURES,
            cdw10: [NUMBER_OF_QUEUES, 0, 0, 0, 0, 0],
            ..Command::default()
        };
        self.admin(&one_pair, AdminData::None)?;
        for command in
            self.transport.create_commands(1, ENTRIES.min(u16::try_from(entries_max).unwrap_or(ENTRIES)))?
        {
            self.admin(&command, AdminData::None)?;
        }
        let mut queue = self.wait(|transport, now| transport.poll_queue(1, ENTRIES, now))?;
        let bytes_max = queue.bytes_max().min(controller.bytes_max(limits.page_bytes_min));
        let (pool, buffer_bytes) = self.pool(&mut *queue, bytes_max)?;
        let buf = pool.take(buffer_bytes).ok_or("no buffer")?;
        for id in identify::active_namespaces(&self.identify(cns::ACTIVE_NAMESPACES, 0)?) {
            match Namespace::decode(&self.identify(cns::NAMESPACE, id)?) {
                Ok(namespace) => self.namespace(&mut *queue, id, &namespace, &buf, bytes_max)?,
                Err(why) => self.say(format_args!("namespace {id}: {why:?}")),
            }
        }
        self.watch(watch)?;
        for command in self.transport.delete_commands(1) {
            self.admin(&command, AdminData::None)?;
        }
        self.transport.forget_queue(1);
        self.transport.stop(self.now());
        self.wait(|transport, now| transport.poll_stop(now))?;
        let quiet = if self.transport.is_quiet() { "shut down" } else { "NOT QUIET" };
        self.say(format_args!("{quiet}"));
        Ok(())
    }

    /// A buffer that the device can reach, one page longer than a command moves.
    fn pool(&mut self, queue: &mut dyn Queue, bytes_max: usize) -> Said<(Pool, usize)> {
        let class = Class { bytes: bytes_max + 4096, count: 1 };
        let memory = Memory::map_preferring_huge(class.bytes, Hugepages::Auto, Memory::map);
        let memory = memory.map_err(|failed| failed.to_string())?;
        let (base, bytes) = (memory.base().expose_provenance().get(), memory.bytes());
        let mapping = self.transport.map(base, bytes)?.ok_or("no mapping")?;
        queue.learn(mapping);
        Ok((Pool::new(memory, &[class]), class.bytes))
    }

    fn namespace(
        &mut self,
        queue: &mut dyn Queue,
        id: u32,
        namespace: &Namespace,
        buf: &Buf,
        bytes_max: usize,
    ) -> Said<()> {
        let Namespace { blocks, block_bytes, metadata_bytes, .. } = *namespace;
        self.say(format_args!(
            "namespace {id}: {blocks} blocks of {block_bytes} bytes, {metadata_bytes} of metadata"
        ));
        if metadata_bytes != 0 {
            return Ok(());
        }
        let block = usize::try_from(block_bytes).map_err(|error| error.to_string())?;
        let end = (HASHED_BYTES_MAX / u64::from(block_bytes)).min(blocks);
        let (mut hash, mut lba, mut turn) = (Sha256::new(), 0, 0);
        while lba < end {
            // Lengths from one block up, from places that are aligned to 4 bytes and no more.
            let want = 1_u64 << (turn % 10);
            let count = want.min(end - lba).min((bytes_max / block) as u64);
            let from = (turn * 1004 % 4096).min(buf.len() - bytes_max);
            turn += 1;
            let bytes = usize::try_from(count).map_err(|error| error.to_string())? * block;
            let [low, high, length] =
                extent_words(lba, u32::try_from(count).map_err(|error| error.to_string())?);
            let read = Command {
                opcode: nvm::READ,
                nsid: id,
                cdw10: [low, high, length, 0, 0, 0],
                ..Command::default()
            };
            self.io(queue, &read, Payload::Read(buf, (from, bytes)))?;
            hash.update(&buf[from..from + bytes]);
            lba += count;
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.say(format_args!(
            "namespace {id}: {} bytes in {turn} reads, SHA-256 {hash}",
            end * u64::from(block_bytes)
        ));
        Ok(())
    }

    fn watch(&mut self, time: Duration) -> Said<()> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.transport.check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits, a little at a time.
    fn wait<T>(&mut self, mut poll: impl FnMut(&mut PciTransport, Tick) -> Progress<T>) -> Said<T> {
        loop {
            let now = self.now();
            match poll(&mut self.transport, now) {
                Progress::Ready(value) => return Ok(value),
                Progress::Failed(why) => return Err(why),
                Progress::Pending => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn identify(&mut self, what: u32, namespace: u32) -> Said<Page> {
        let command = Command {
            opcode: admin::IDENTIFY,
            nsid: namespace,
            cdw10: [what, 0, 0, 0, 0, 0],
            ..Command::default()
        };
        self.admin(&command, AdminData::In)?.ok_or_else(|| "Identify without data".to_owned())
    }

    fn admin(&mut self, command: &Command, data: AdminData<'_>) -> Said<Option<Page>> {
        if !self.transport.submit(1, command, data) {
            return Err("the admin queue takes nothing".to_owned());
        }
        let began = Instant::now();
        loop {
            let now = self.now();
            if let Some((completion, data)) = self.transport.pop(now) {
                judge(command, completion.into(), 1)?;
                return Ok(data.copied());
            }
            self.transport.check()?;
            in_time(command, began)?;
        }
    }

    fn io(&mut self, queue: &mut dyn Queue, command: &Command, payload: Payload<'_>) -> Said<()> {
        queue.push(3, 7, command, payload).map_err(|error| format!("{error:?}: {:?}", queue.fault()))?;
        queue.ring(&mut NoPayloads);
        let began = Instant::now();
        loop {
            if let Some(ended) = queue.pop(&mut NoPayloads, self.now()) {
                queue.acknowledge();
                return judge(command, ended, 7);
            }
            if let Some(fault) = queue.fault() {
                return Err(fault.to_owned());
            }
            in_time(command, began)?;
        }
    }
}

fn judge(command: &Command, ended: Ended, cid: u16) -> Said<()> {
    if ended.cid != cid {
        return Err(format!("a completion of command {}, which was not sent", ended.cid));
    }
    if !ended.status.is_ok() {
        return Err(format!("command {:#04x} ends with status {:#x}", command.opcode, ended.status.bits()));
    }
    Ok(())
}

fn in_time(command: &Command, began: Instant) -> Said<()> {
    if began.elapsed() < COMMAND_TIME_MAX {
        return Ok(());
    }
    Err(format!("command {:#04x} is not completed in {} s", command.opcode, COMMAND_TIME_MAX.as_secs()))
}
