use super::super::shared::Order;
use super::*;
use crate::bdev::nvme::port::StopCause;

#[test]
fn a_completion_of_nothing_resets_the_controller() {
    for act in [Act::Twice, Act::Other] {
        let mut bench = Bench::running();
        bench.device().rules.push((|command| is_identify(command, 2), act));
        bench.shared.order(Order::Rescan);
        bench.run(0);
        bench.device().rules.clear();
        bench.run(SECOND_NS);
        assert!(bench.told(Severity::Warn)[0].contains("an admin command that it does not have"));
        // It did the same while it was brought up: once more, after a reset from outside.
        assert_eq!(bench.resets(), (3, 1));
        assert_eq!(bench.shared.life(), Life::Running);
    }
}

#[test]
fn a_storm_of_events_is_listened_to_now_and_then() {
    let mut bench = Bench::running();
    // Each request is answered at once: something changed.
    bench.device().rules.push((|command| command.opcode == admin::ASYNC_EVENT, Act::End(0, 0x0004_0002)));
    for _ in 0..4 {
        bench.device().tell(0x0004_0002);
    }
    bench.device().seen.clear();
    bench.run(100 * SECOND_NS);
    let seen = std::mem::take(&mut bench.device().seen);
    let count = |opcode| seen.iter().filter(|command| command.opcode == opcode).count();
    assert!((200..=400).contains(&count(admin::ASYNC_EVENT)), "{}", count(admin::ASYNC_EVENT));
    assert!(count(admin::IDENTIFY) <= 3 * 400);
    assert_eq!(bench.shared.life(), Life::Running);
    let told = bench.told(Severity::Warn);
    assert!((1..=2).contains(&told.len()), "{told:?}");
}

#[test]
fn queue_entries_of_other_sizes_are_refused() {
    for sizes in [[0x00, 0x00], [0x77, 0x44], [0x66, 0x55], [0xFF, 0xFF]] {
        let mut page = Box::new([0xFF; ADMIN_DATA_BYTES]);
        page[512..514].copy_from_slice(&sizes);
        let mut device = Device::new();
        device.rules.push((|command| is_identify(command, 1), Act::Fill(page)));
        let mut bench = Bench::new(device);
        bench.run(SECOND_NS);
        let Life::Gone(why) = bench.shared.life() else { panic!("{sizes:?}") };
        assert!(why.contains("queue entries of other sizes"), "{why}");
    }
}

/// A xorshift: what garbage is made of.
struct Seed(u64);

impl Seed {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn page(&mut self) -> Box<Page> {
        let mut page = Box::new([0; ADMIN_DATA_BYTES]);
        let every = 1 + self.below(64);
        for byte in page.iter_mut() {
            if self.below(every) == 0 {
                *byte = u8::try_from(self.below(256)).unwrap();
            }
        }
        page
    }

    fn act(&mut self) -> Act {
        match self.below(12) {
            0 => Act::Silent,
            1 => Act::End(u16::try_from(self.below(1 << 15)).unwrap(), self.below(u64::MAX)),
            2 => Act::End(0, self.below(u64::MAX)),
            3 => Act::Fill(self.page()),
            4 => Act::Twice,
            5 => Act::Other,
            _ => Act::Sound,
        }
    }
}

/// What a lane did and heard.
struct Player {
    port: Arc<Port>,
    queue: Option<Box<dyn Queue + Send>>,
    /// It has, or had, a pair of which it has not heard that it is gone.
    owes: bool,
    is_gone: bool,
}

impl Player {
    fn play(&mut self, seed: &mut Seed) {
        while let Some(reply) = self.port.reply() {
            assert!(!self.is_gone, "{reply:?} after the end");
            match reply {
                Reply::Opened(queue) => {
                    assert!(!self.owes, "two pairs at once");
                    (self.queue, self.owes) = (Some(queue), true);
                }
                Reply::Stopped => {
                    assert!(std::mem::take(&mut self.owes), "stopped without a pair");
                    self.queue = None;
                    self.port.ask(Request::Open).unwrap();
                }
                Reply::Gone => self.is_gone = true,
                Reply::Mapped { .. } | Reply::Lba { .. } => {}
            }
        }
        if self.is_gone {
            return;
        }
        let cid = u16::try_from(seed.below(1 << 16)).unwrap();
        match seed.below(6) {
            0 => self.port.hint(Request::Abort { cid }),
            1 => self.port.hint(Request::WhichLba { cid }),
            2 => {
                let base = usize::try_from(seed.below(4) << 21).unwrap();
                self.port.hint(Request::Map { base, bytes: 4096 });
            }
            3 => {
                if let Some(queue) = self.queue.take() {
                    let causes = [StopCause::Fence, StopCause::TimedOut, StopCause::Nonsense("a joke")];
                    let why = causes[usize::try_from(seed.below(3)).unwrap()];
                    self.port.ask(Request::Stop { queue, why }).unwrap();
                }
            }
            _ => {}
        }
    }
}

#[test]
fn whatever_a_controller_says_it_is_survived() {
    let mut ran = 0;
    for number in 1..=400_u64 {
        let mut seed = Seed(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(number));
        let mut device = Device::new();
        device.needs_keep_alive = seed.below(2) == 0;
        let options = if seed.below(2) == 0 {
            Options::pcie("n0".to_owned(), 4)
        } else {
            Options::fabrics("n0".to_owned(), 4, Some(20 * SECOND_NS))
        };
        let mut bench = Bench::with(device, options);
        if seed.below(4) > 0 {
            bench.run(MS_NS);
        }
        let mut players: Vec<Player> = (0..3)
            .map(|reactor| Player { port: bench.lane(reactor), queue: None, owes: false, is_gone: false })
            .collect();
        for _ in 0..40 {
            let act = seed.act();
            let rule: Which = match seed.below(4) {
                0 => |command| command.opcode == admin::IDENTIFY,
                1 => |command| command.opcode == admin::ASYNC_EVENT,
                2 => |command| command.opcode <= admin::CREATE_CQ,
                _ => |_| true,
            };
            {
                let mut device = bench.device();
                device.rules.clear();
                device.rules.push((rule, act));
                device.fault = (seed.below(40) == 0).then_some("it is not well");
                device.quiets = seed.below(3) > 0;
                if seed.below(20) == 0 {
                    device.starts.push_back(Err("it does not start"));
                }
                if seed.below(3) == 0 && !device.events.is_empty() {
                    let result = seed.below(u64::MAX);
                    device.tell(result);
                }
            }
            for player in &mut players {
                player.play(&mut seed);
            }
            bench.run(seed.below(3 * SECOND_NS));
        }
        ran += usize::from(bench.shared.life() == Life::Running);
        {
            let mut device = bench.device();
            device.rules.clear();
            (device.fault, device.quiets, device.starts) = (None, true, VecDeque::new());
        }
        bench.shared.order(Order::Detach);
        bench.run(60 * SECOND_NS);
        assert!(bench.controller.is_over(), "seed {number}: {:?}", bench.controller.state);
        assert!(bench.device().mapped.is_empty(), "seed {number}");
        for player in &mut players {
            player.play(&mut seed);
            assert!(player.is_gone, "seed {number}");
        }
    }
    assert!((20..=380).contains(&ran), "{ran} of 400 live: the garbage is too harmless, or too bad");
}
