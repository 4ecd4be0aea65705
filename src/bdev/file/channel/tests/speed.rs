//! A channel alone against fio's io_uring engine on the same file: 4 KiB, queue depth 32, interleaved, medians.
//!
//! `LUNETTE_FIO=5 cargo test --lib channel::tests::speed -- --nocapture` makes five rounds of a second each. What is printed besides
//! the ratio tells where it comes from: calls of `io_uring_enter` per IO, and which share of its time the thread had a CPU
//! when it wanted one. A thread that spins on a CPU that others use gets its share and no more, however many calls it saves;
//! one that waits is served first when it wakes. No remedy is a real-time priority: ext4 ends direct writes in kernel threads of the
//! same CPU, which a real-time thread that spins starves (measured: writes stop).

use std::os::fd::{BorrowedFd, RawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

const FILE_BYTES: u64 = 256 << 20;
const RUN: Duration = Duration::from_secs(1);

/// How a reactor spends its time while nothing has come back.
#[derive(Clone, Copy, Debug)]
enum Idle {
    Spin,
    Park,
}

#[derive(Clone, Copy, Default)]
struct Figures {
    ios_per_second: f64,
    enters_per_io: f64,
    cpu_share: f64,
}

/// Nanoseconds that this thread has run, and has waited for a CPU.
fn scheduled() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// What a reactor does at the end of a turn: a look at what is ready, for up to a second where it waits.
#[expect(unsafe_code, reason = "names a descriptor that the channel only lends as a number")]
fn look(fd: RawFd, waits: bool) {
    // SAFETY: the channel has it open until it is dropped, after this.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let wait = Timespec { tv_sec: i64::from(waits), tv_nsec: 0 };
    // Interrupted is as good as ready.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&wait));
}

fn drive(disk: &FileDisk, idle: Idle, is_write: bool) -> Figures {
    let mut channel = channel(disk);
    let pool = Pool::ordinary(&[Class { bytes: 4096, count: DEPTH as usize }]).unwrap();
    let mut free: Vec<_> = (0..DEPTH).map(|index| (index, pool.take(4096).unwrap())).collect();
    let mut out = Vec::with_capacity(DEPTH as usize);
    let (mut random, mut ios) = (0x9e37_79b9_7f4a_7c15_u64, 0.0);
    let (begin, (ran, waited)) = (Instant::now(), scheduled());
    while begin.elapsed() < RUN || channel.in_flight() > 0 {
        channel.poll(&mut out, usize::MAX, Tick::ZERO);
        for done in out.drain(..) {
            assert_eq!(done.result, Ok(()));
            free.push((done.tag.index, done.data.unwrap()));
            ios += 1.0;
        }
        if begin.elapsed() < RUN {
            for (index, data) in free.drain(..) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let lba = random % (FILE_BYTES / 4096) * 8;
                let op = if is_write {
                    Op::Write { lba, blocks: 8, fua: false }
                } else {
                    Op::Read { lba, blocks: 8 }
                };
                channel
                    .submit(Io { tag: Key { index, generation: 0 }, op, data: Some(data) }, Tick::ZERO)
                    .unwrap();
            }
        }
        channel.kick();
        if let Wake::Fd(fd) = channel.wake() {
            look(fd, matches!(idle, Idle::Park));
        }
    }
    let (seconds, (ran_by, waited_by)) = (begin.elapsed().as_secs_f64(), scheduled());
    let (ran, waited) = (ran_by - ran, waited_by - waited);
    let enters = f64::from(u32::try_from(enters(&channel)).unwrap());
    Figures { ios_per_second: ios / seconds, enters_per_io: enters / ios, cpu_share: ran / (ran + waited) }
}

fn fio(path: &std::path::Path, is_write: bool) -> f64 {
    let (name, field) = if is_write { ("randwrite", 48) } else { ("randread", 7) };
    let output = Command::new("fio")
        .args(["--name=x", "--ioengine=io_uring", "--direct=1", "--bs=4k", "--iodepth=32", "--norandommap"])
        .args([
            "--registerfiles=1",
            "--time_based",
            "--runtime=1",
            "--output-format=terse",
            "--terse-version=3",
        ])
        .args([format!("--filename={}", path.display()), format!("--rw={name}")])
        .output()
        .expect("fio is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(';').nth(field).and_then(|number| number.parse().ok()).expect("fio says how many")
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[test]
fn against_fio() {
    let Some(rounds) = std::env::var("LUNETTE_FIO").ok().and_then(|rounds| rounds.parse::<usize>().ok())
    else {
        return println!("not run: LUNETTE_FIO does not say how many rounds");
    };
    let directory = Directory::new();
    let path = directory.file("disk", 0);
    std::fs::write(&path, vec![0x5a; usize::try_from(FILE_BYTES).unwrap()]).unwrap();
    let disk = disk(recipe(&path)).unwrap();
    for is_write in [false, true] {
        let mut ratios = [Vec::new(), Vec::new()];
        let mut last = [Figures::default(); 2];
        for _ in 0..rounds {
            let peer = fio(&path, is_write);
            for (index, idle) in [Idle::Spin, Idle::Park].into_iter().enumerate() {
                last[index] = drive(&disk, idle, is_write);
                ratios[index].push(last[index].ios_per_second / peer);
            }
        }
        for ((idle, ratios), last) in [Idle::Spin, Idle::Park].into_iter().zip(ratios).zip(last) {
            println!(
                "{idle:?}, {}: {:.2} of fio; last round {:.0} IO/s, {:.3} enters per IO, had a CPU {:.0} % of the time it wanted one",
                if is_write { "write" } else { "read" },
                median(ratios),
                last.ios_per_second,
                last.enters_per_io,
                100.0 * last.cpu_share,
            );
        }
    }
}
