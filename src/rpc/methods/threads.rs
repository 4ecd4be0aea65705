//! Reactors as SPDK shows its own: `framework_get_reactors`, `thread_get_*`, and its scheduler, which lunette has no need of.
//!
//! A reactor is one thread that does everything in its turn, so each has one of what SPDK calls threads, with no pollers. What a
//! thread has used of its CPU is the kernel's word; a reactor that polls uses all of it.

use std::fs;
use std::path::PathBuf;

use rustix::io::Errno;

use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::time::{SECOND_NS, Tick};

pub(super) const METHODS: &[Method] = &[
    method!(
        "framework_get_reactors",
        Runtime,
        Nothing,
        get_reactors,
        "Lists the reactors: their CPU, thread, and how long that was busy (polling counts) and idle, in ticks, which are nanoseconds."
    ),
    method!(
        "framework_get_scheduler",
        Runtime,
        Nothing,
        get_scheduler,
        "Tells that reactors stay on the CPUs they were given."
    ),
    method!(
        "framework_get_governor",
        Runtime,
        Nothing,
        get_governor,
        "Tells that lunette leaves CPU frequencies alone."
    ),
    method!(
        "framework_monitor_context_switch",
        Runtime,
        Monitor,
        monitor,
        "Tells that context switches are not watched; asking for that is refused."
    ),
    method!(
        "thread_get_stats",
        Runtime,
        Nothing,
        get_stats,
        "Lists the reactors' threads and how busy they were."
    ),
    method!(
        "thread_get_pollers",
        Runtime,
        Nothing,
        get_pollers,
        "Lists the reactors' threads; they have a turn and no pollers."
    ),
    method!(
        "thread_get_io_channels",
        Runtime,
        Nothing,
        get_io_channels,
        "Lists the reactors' threads and to which bdevs each has a channel now."
    ),
    method!(
        "thread_set_cpumask",
        Runtime,
        SetCpumask,
        set_cpumask,
        "Refused unless it is where the thread is: reactors stay on the CPUs that serve was started with."
    ),
];

/// A reactor's thread, as the kernel shows it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Thread {
    /// The reactor's number.
    number: usize,
    tid: u64,
    /// The CPU that it ran on last.
    cpu: u64,
    /// The CPUs that it may run on, in hexadecimal digits.
    mask: String,
    busy_ns: u64,
    /// In clock ticks.
    user: u64,
    /// In clock ticks.
    system: u64,
}

impl Thread {
    /// As `iscsi_get_connections` calls it.
    fn name(&self) -> String {
        format!("reactor_{}", self.number)
    }

    /// SPDK counts from 1.
    fn id(&self) -> u64 {
        self.number as u64 + 1
    }
}

/// The reactors' threads, and how long the daemon has run in nanoseconds.
fn threads(context: &Context) -> Result<(Vec<Thread>, u64), Fault> {
    let (count, age_ns) =
        context.control(|control, now| (control.reactor_count(), now.since_ns(Tick::ZERO)))?;
    let folders: Vec<PathBuf> = match fs::read_dir("/proc/self/task") {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => return Err(Fault::internal(format_args!("/proc/self/task: {error}"))),
    };
    let named = |folder: &PathBuf| {
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        name.trim_end().strip_prefix("reactor-")?.parse::<usize>().ok()
    };
    let known: Vec<(usize, PathBuf)> =
        folders.into_iter().filter_map(|folder| Some((named(&folder)?, folder))).collect();
    let thread = |number: usize| {
        let folder = known.iter().find(|(known, _)| *known == number).map(|(_, folder)| folder);
        let read =
            |name| folder.and_then(|folder| fs::read_to_string(folder.join(name)).ok()).unwrap_or_default();
        let tid = folder.and_then(|folder| folder.file_name()?.to_str()?.parse().ok()).unwrap_or_default();
        parse(number, tid, &read("stat"), &read("schedstat"), &read("status"))
    };
    Ok(((0..count).map(thread).collect(), age_ns))
}

/// Reads what proc(5) says of a thread; what is not there is 0.
fn parse(number: usize, tid: u64, stat: &str, schedstat: &str, status: &str) -> Thread {
    // The name, in parentheses, may have blanks; fields are counted from 3 behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |place: usize| fields.get(place - 3).and_then(|text| text.parse().ok()).unwrap_or_default();
    let busy_ns = schedstat.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).unwrap_or_default();
    Thread { number, tid, cpu: field(39), mask: digits(mask), busy_ns, user: field(14), system: field(15) }
}

/// A CPU mask without what makes no difference.
fn digits(mask: &str) -> String {
    let mask = mask.trim().to_ascii_lowercase().replace([',', '_'], "");
    let digits = mask.trim_start_matches("0x").trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
}

fn get_reactors(context: &Context, _: Nothing) -> Outcome {
    let (threads, age_ns) = threads(context)?;
    let one = |thread: &Thread| {
        object! {
            "lcore": thread.cpu,
            "numa_id": numa_node(thread.cpu),
            "tid": thread.tid,
            "busy": thread.busy_ns,
            "idle": age_ns.saturating_sub(thread.busy_ns),
            "in_interrupt": false,
            "irq": 0u64,
            "sys": thread.system,
            "usr": thread.user,
            "lw_threads": Json::Array(vec![object! {
                "name": thread.name(),
                "id": thread.id(),
                "cpumask": &thread.mask,
                "elapsed": age_ns,
            }]),
        }
    };
    Ok(object! {
        "tick_rate": SECOND_NS,
        "pid": std::process::id(),
        "reactors": threads.iter().map(one).collect::<Json>(),
    })
}

/// The NUMA node of a CPU; 0 where the system has none.
fn numa_node(cpu: u64) -> u64 {
    let folder = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}"));
    let node = |name: &str| name.strip_prefix("node")?.parse().ok();
    folder
        .ok()
        .and_then(|entries| entries.flatten().find_map(|entry| node(entry.file_name().to_str()?)))
        .unwrap_or_default()
}

/// A list of the threads, each with members of its own.
fn list(threads: &[Thread], more: impl Fn(&Thread) -> Vec<(&'static str, Json)>) -> Json {
    let one = |thread: &Thread| {
        let mut members = object! { "name": thread.name(), "id": thread.id() };
        more(thread).into_iter().for_each(|(name, value)| members.push(name, value));
        members
    };
    object! { "tick_rate": SECOND_NS, "threads": threads.iter().map(one).collect::<Json>() }
}

fn get_stats(context: &Context, _: Nothing) -> Outcome {
    let (threads, age_ns) = threads(context)?;
    Ok(list(&threads, |thread| {
        vec![
            ("cpumask", Json::from(&thread.mask)),
            ("busy", thread.busy_ns.into()),
            ("idle", age_ns.saturating_sub(thread.busy_ns).into()),
            ("active_pollers_count", 0u64.into()),
            ("timed_pollers_count", 0u64.into()),
            ("paused_pollers_count", 0u64.into()),
        ]
    }))
}

fn get_pollers(context: &Context, _: Nothing) -> Outcome {
    let none = || Json::Array(Vec::new());
    Ok(list(&threads(context)?.0, |_| {
        vec![("active_pollers", none()), ("timed_pollers", none()), ("paused_pollers", none())]
    }))
}

fn get_io_channels(context: &Context, _: Nothing) -> Outcome {
    let (threads, _) = threads(context)?;
    let open = context.control(|control, _| {
        let one =
            |entry: &crate::control::registry::Entry| (entry.name.clone(), entry.spec.bdev.open_channels());
        control.bdevs().map(one).collect::<Vec<_>>()
    })?;
    Ok(list(&threads, |thread| {
        let here = open.iter().filter_map(|(name, channels)| {
            let (_, count) = channels.iter().find(|(reactor, _)| usize::from(reactor.0) == thread.number)?;
            Some(object! { "name": name, "ref": *count as u64 })
        });
        vec![("io_channels", here.collect::<Json>())]
    }))
}

params! {
    /// Of `thread_set_cpumask`.
    pub(super) struct SetCpumask {
        /// The thread's number.
        id: u64,
        /// The CPUs, as hexadecimal digits.
        cpumask: String,
    }
}

fn set_cpumask(context: &Context, params: SetCpumask) -> Outcome {
    let (threads, _) = threads(context)?;
    let thread = threads.iter().find(|thread| thread.id() == params.id);
    let thread =
        thread.ok_or_else(|| Fault::errno(Errno::INVAL, format_args!("there is no thread {}", params.id)))?;
    if thread.mask == digits(&params.cpumask) {
        return Ok(Json::Bool(true));
    }
    let why = format_args!(
        "{} stays on CPUs {}: serve --cores says where reactors run",
        thread.name(),
        thread.mask
    );
    Err(Fault::errno(Errno::OPNOTSUPP, why))
}

fn get_scheduler(_: &Context, _: Nothing) -> Outcome {
    Ok(object! {
        "scheduler_name": "static",
        "scheduler_period": 0u64,
        "isolated_core_mask": "0x0",
        "scheduling_core": 0u64,
    })
}

/// SPDK's answer where there is none.
fn get_governor(_: &Context, _: Nothing) -> Outcome {
    Ok(Json::Object(Vec::new()))
}

params! {
    /// Of `framework_monitor_context_switch`.
    pub(super) struct Monitor {
        /// Whether to watch.
        enabled: bool = false,
    }
}

fn monitor(_: &Context, params: Monitor) -> Outcome {
    match params.enabled {
        true => Err(Fault::errno(Errno::OPNOTSUPP, "the kernel counts them: /proc/PID/task/TID/status")),
        false => Ok(object! { "enabled": false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_thread_is_read() {
        let stat = "12 (reactor-1 ) x) S 1 2 3 0 -1 64 1 0 0 0 250 31 0 0 20 0 3 0 987 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 5 0 0 0";
        let status = "Name:\treactor-1\nCpus_allowed:\t00000000,00000020\nCpus_allowed_list:\t5\n";
        let expected =
            Thread { number: 1, tid: 12, cpu: 5, mask: "20".to_owned(), busy_ns: 77, user: 250, system: 31 };
        assert_eq!(parse(1, 12, stat, "77 5 9\n", status), expected);
        let nothing = Thread { number: 2, tid: 0, mask: "0".to_owned(), ..Thread::default() };
        assert_eq!(parse(2, 0, "", "", ""), nothing);
        assert_eq!(
            (digits("0x00"), digits("0xFF"), digits("1,00000000")),
            ("0".into(), "ff".into(), "100000000".into())
        );
    }
}
