//! Two real reactors, with the test in the place of the control thread.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lunette::bdev::error::{Faults, Faulty};
use lunette::bdev::file::{self, Cache, FileDisk};
use lunette::bdev::malloc::{Malloc, Recipe as MallocRecipe};
use lunette::bdev::nvme::served::Served;
use lunette::bdev::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, Refused, Wake};
use lunette::buf::Hugepages;
use lunette::id::{BarrierId, NexusId, ReactorId, SessionId, UnitId};
use lunette::iscsi::login::{
    Access, Authority, Claim, Granted, Login, Progress, Refusal, TargetAccess, Which,
};
use lunette::iscsi::negotiate::Offer;
use lunette::iscsi::sn::Sn;
use lunette::limits;
use lunette::net::wake::{KernelWaker, wake_pair};
use lunette::reactor::message::{Adopt, Change, CloseCause, Event, NopInTimes, ToControl, ToReactor};
use lunette::reactor::port::{Receiver, Sender, channel};
use lunette::reactor::{Idle, Planted, Recipe, Running, spawn};
use lunette::scsi::attention::Ua;
use lunette::scsi::view::{Identity, LunNumber, Mapping, Modes, TargetView, UnitView};
use lunette::slab::Key;
use lunette::time::Tick;
use lunette_initiator::{Client, Config};

use crate::counting;

/// LUN 0 is a RAM disk, LUN 1 a file, LUN 2 a namespace of an NVMe controller.
pub(crate) const LUNS: usize = 3;
/// Each: 64 MiB of 512-byte blocks.
pub(crate) const BLOCKS: u64 = 131_072;
pub(crate) const TARGET: &str = "iqn.2025-01.com.example:disk";

/// A device that passes everything on. A reactor that opens it is watched from then on, and allocates where the test
/// wants to see it found out.
#[derive(Debug)]
struct Probe {
    inner: Arc<dyn Bdev>,
    is_planted: Arc<AtomicBool>,
}

#[derive(Debug)]
struct ProbeChannel {
    inner: Box<dyn Channel>,
    is_planted: Arc<AtomicBool>,
}

impl Bdev for Probe {
    fn info(&self) -> Info {
        self.inner.info()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        counting::watch_this_thread();
        Box::new(ProbeChannel { inner: self.inner.open(reactor), is_planted: Arc::clone(&self.is_planted) })
    }
}

impl Channel for ProbeChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        if self.is_planted.load(Ordering::Relaxed) {
            drop(std::hint::black_box(Box::new(io.tag)));
        }
        self.inner.submit(io, now)
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.inner.poll(out, max, now);
    }

    fn cancel(&mut self, tag: Key) {
        self.inner.cancel(tag);
    }

    fn fence(&mut self) -> Fence {
        self.inner.fence()
    }

    fn wake(&self) -> Wake {
        self.inner.wake()
    }

    fn in_flight(&self) -> u32 {
        self.inner.in_flight()
    }
}

/// The control thread's part.
#[derive(Debug)]
pub(crate) struct World {
    reactors: Vec<(Sender<ToReactor<OwnedFd>>, Running)>,
    from_reactors: Receiver<ToControl>,
    target: Arc<TargetView>,
    views: [Arc<UnitView>; LUNS],
    next_session: u64,
    next_barrier: u64,
    pub(crate) faults: Faults,
    pub(crate) is_planted: Arc<AtomicBool>,
    /// What reactors said that they should not have.
    pub(crate) complaints: Vec<String>,
    pub(crate) controller: Served,
    _scratch: Scratch,
}

/// A file in the system's directory for such, gone with the world.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        Scratch(std::env::temp_dir().join(format!("lunette-no-alloc-{}", std::process::id())))
    }

    /// A disk that is this file, by io_uring.
    fn disk(&self) -> Arc<dyn Bdev> {
        let recipe = file::Recipe {
            name: "file".to_owned(),
            path: self.0.clone(),
            create_bytes: Some(BLOCKS * 512),
            block_bytes: Some(512),
            cache: Cache::WriteBack,
            read_only: false,
            uuid: Some([8; 16]),
        };
        let disk = FileDisk::new(recipe).unwrap();
        disk.probe().unwrap();
        Arc::new(disk)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

struct Doorman<'a>(&'a World);

impl Authority for Doorman<'_> {
    fn discovery(&self, _: &str) -> Result<Access, Refusal> {
        Err(Refusal::Forbidden)
    }

    fn target(&self, _: &str, _: &str) -> Result<TargetAccess, Refusal> {
        let target = Arc::clone(&self.0.target);
        Ok(TargetAccess { access: Access::Open, target, offer: Offer::DEFAULT })
    }

    fn claim(&mut self, _: &Claim<'_>) -> Result<Granted, Refusal> {
        let session = SessionId(self.0.next_session);
        Ok(Granted { session, tsih: 1, window: limits::WINDOW_MIN, joined: None })
    }

    fn random(&mut self, out: &mut [u8]) {
        out.fill(0x5a);
    }

    fn send_targets(&self, _: &str, _: Which<'_>, _: &mut dyn FnMut(&TargetView)) {}
}

impl World {
    pub(crate) fn new(reactors: u16) -> World {
        let faults = Faults::new();
        let disk = MallocRecipe {
            name: "disk".to_owned(),
            blocks: BLOCKS,
            blocks_max: BLOCKS,
            block_bytes: 512,
            physical_block_bytes: 512,
            uuid: [7; 16],
            hugepages: Hugepages::Off,
        };
        let scratch = Scratch::new();
        let is_planted = Arc::new(AtomicBool::new(false));
        let probed = |disk: Arc<dyn Bdev>| -> Arc<dyn Bdev> {
            let inner = Arc::new(Faulty::new(disk, faults.clone()));
            Arc::new(Probe { inner, is_planted: Arc::clone(&is_planted) })
        };
        let controller = Served::start(reactors, BLOCKS, 512).unwrap();
        let disks =
            [Arc::new(Malloc::new(disk).unwrap()), scratch.disk(), controller.bdev().unwrap()].map(probed);
        let (waker, _) = wake_pair().unwrap();
        let (to_control, from_reactors) = channel(limits::MAILBOX, Arc::new(waker));
        let views = [0, 1, 2].map(|number| Arc::new(unit_view(number, &disks[usize::from(number)].info())));
        let epoch = Instant::now();
        let port = |_| {
            let (waker, wake): (KernelWaker, _) = wake_pair().unwrap();
            let (sender, inbox) = channel(limits::MAILBOX, Arc::new(waker));
            (sender, (inbox, wake))
        };
        let (senders, ports): (Vec<Sender<ToReactor<OwnedFd>>>, Vec<_>) = (0..reactors).map(port).unzip();
        let start = |(number, (inbox, wake)): (u16, _)| {
            let sender = senders[usize::from(number)].clone();
            let running = spawn(Recipe {
                planted: Planted::default(),
                id: ReactorId(number),
                cpu: None,
                idle: Idle::Park,
                hugepages: Hugepages::Off,
                pool_bytes: 4 * limits::POOL_BYTES_MIN,
                epoch,
                inbox,
                wake,
                to_control: to_control.clone(),
                peers: senders.clone(),
            });
            for (view, disk) in views.iter().zip(&disks) {
                sender.send(ToReactor::AddUnit { view: Arc::clone(view), bdev: Arc::clone(disk) }).unwrap();
            }
            (sender, running.unwrap())
        };
        World {
            reactors: (0..reactors).zip(ports).map(start).collect(),
            from_reactors,
            target: Arc::new(target_view()),
            views,
            next_session: 1,
            next_barrier: 1,
            faults,
            is_planted,
            complaints: Vec::new(),
            controller,
            _scratch: scratch,
        }
    }

    /// A session with this reactor.
    pub(crate) fn login(&mut self, reactor: usize, config: Config) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::start(listener.local_addr().unwrap(), config).unwrap();
        client.service().unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        let login = self.negotiate(&mut socket, &mut client);
        client.finish_login().unwrap();
        let adopt = Adopt {
            handle: OwnedFd::from(socket),
            session: login.granted.session,
            nexus: NexusId(1),
            target: login.target.unwrap(),
            params: login.params,
            stat_sn: login.stat_sn,
            exp_cmd_sn: login.exp_cmd_sn,
            cid: login.cid,
            leftover: login.leftover,
            attention: Ua::PowerOn,
            owed: Vec::new(),
            is_gated: false,
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
            meter: Arc::default(),
            pace: None,
        };
        self.next_session += 1;
        self.reactors[reactor].0.send(ToReactor::Adopt(Box::new(adopt))).unwrap();
        client
    }

    fn negotiate(&self, socket: &mut TcpStream, client: &mut Client) -> lunette::iscsi::login::Established {
        let mut login = Login::new(Sn(1));
        let mut bytes = [0; 65536];
        loop {
            client.service().unwrap();
            let count = socket.read(&mut bytes).unwrap();
            let progress = login.received(&bytes[..count], &mut Doorman(self));
            socket.write_all(login.outgoing()).unwrap();
            let sent = login.outgoing().len();
            login.sent(sent);
            match progress {
                Progress::More => {}
                Progress::Established => return login.into_established().unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether blocks of this LUN can be given back.
    pub(crate) fn unmaps(&self, lun: usize) -> bool {
        self.views[lun].unmap.is_some()
    }

    /// A barrier that owes every session a unit attention.
    pub(crate) fn attend(&mut self, lun: usize) {
        let view = &mut self.views[lun];
        *view = Arc::new(UnitView::clone(view));
        for (sender, _) in &self.reactors {
            let change = Change::Unit {
                view: Arc::clone(view),
                attention: Some(Ua::CapacityChanged),
                except: None,
                is_drained: false,
            };
            sender.send(ToReactor::Barrier { id: BarrierId(self.next_barrier), change }).unwrap();
        }
        self.next_barrier += 1;
    }

    /// Takes what reactors say. What they retire is freed here.
    pub(crate) fn service(&mut self) {
        while let Some(message) = self.from_reactors.receive() {
            match message {
                ToControl::BarrierDone { is_clean: true, .. }
                | ToControl::Event(Event::Tmf { .. })
                | ToControl::Event(Event::Closed { cause: CloseCause::LoggedOut, .. })
                | ToControl::SessionEnded { is_logout: true, .. }
                | ToControl::SessionDrained { .. }
                | ToControl::Retired(_) => {}
                other => self.complaints.push(format!("{other:?}")),
            }
        }
    }

    /// Ends the reactors and their threads; every session has logged out.
    pub(crate) fn stop(mut self) {
        for (sender, _) in &self.reactors {
            sender.send(ToReactor::Stop).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        for (_, running) in std::mem::take(&mut self.reactors) {
            while !running.thread.is_finished() {
                assert!(Instant::now() < deadline, "a reactor does not stop");
                std::thread::yield_now();
            }
            running.thread.join().unwrap();
        }
    }
}

fn unit_view(number: u16, info: &Info) -> UnitView {
    let identity = Identity {
        vendor: *b"LUNETTE ",
        product: *b"disk            ",
        revision: *b"0001",
        serial: "1".to_owned(),
        naa: [0x30, 0, 0, 0, 0, 0, 0, 1].into_iter().collect(),
        eui64: None,
        t10: None,
        designators: Vec::new(),
    };
    UnitView {
        physical_block_bytes: info.physical_block_bytes,
        write_cache: info.write_cache,
        modes: Modes::new(info.write_cache),
        unmap: info.unmap,
        offloads: info.offloads,
        ..UnitView::new(UnitId(u32::from(number)), BLOCKS, 512, identity)
    }
}

fn target_view() -> TargetView {
    let mapping = |number: u16| Mapping {
        number: LunNumber(number),
        unit: UnitId(u32::from(number)),
        read_only: false,
    };
    TargetView {
        name: TARGET.to_owned(),
        alias: String::new(),
        relative_port: 1,
        ports: vec![1],
        port_groups: vec![1],
        portal_groups: vec![1],
        histogram: None,
        port_group: 1,
        portal_group: 1,
        lun_map: None,
        portals: Vec::new(),
        mappings: [0, 1, 2].map(mapping).into(),
    }
}
