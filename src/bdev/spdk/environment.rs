//! SPDK in this process: its memory, its first thread, its subsystems, brought up from a file in SPDK's own form and taken down.
//!
//! An island of `unsafe`: the calls that do it.
#![expect(unsafe_code, reason = "SPDK is brought up by calls of C")]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::size_of;
use std::ptr;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use spdk_sys as spdk;

use super::{StartError, status};
use crate::buf::Hugepages;

/// Messages that may be on their way between SPDK's threads.
const MESSAGES: usize = 65_535;
/// SPDK's memory where there are no hugepages, unless told.
const MEMORY_MIB: u32 = 1024;
/// Hugepages that are free: with fewer it is not even tried.
const HUGEPAGES_MIN: u64 = 256;

/// What to make it of.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    pub(super) hugepages: Hugepages,
    pub(super) memory_mib: Option<u32>,
}

/// SPDK, initialised; on the thread of the system that did it, whose thread of SPDK's is the first.
#[derive(Debug)]
pub(super) struct Environment {
    app: *mut spdk::spdk_thread,
    /// Devices reach the memory of this process, where SPDK has registered it.
    pub(super) has_dma: bool,
}

impl Environment {
    /// Initialises memory and threads. Once for the process.
    pub(super) fn new(needs: &Needs) -> Result<Environment, StartError> {
        let is_huge = match needs.hugepages {
            Hugepages::Auto => free_hugepages() >= HUGEPAGES_MIN,
            Hugepages::Require => true,
            Hugepages::Off => false,
        };
        let cpus = sched_getaffinity(None).map_err(StartError::System)?;
        let cpu = (0..CpuSet::MAX_CPU).find(|&cpu| cpus.is_set(cpu)).unwrap_or(0);
        let (name, map) = (c"lunette".as_ptr(), CString::new(format!("0@{cpu}")).unwrap_or_default());
        let mut options =
            spdk::spdk_env_opts { opts_size: size_of::<spdk::spdk_env_opts>(), ..Default::default() };
        // SAFETY: the structure is of the size that it says.
        unsafe { spdk::spdk_env_opts_init(&raw mut options) };
        options.name = name;
        options.core_mask = ptr::null();
        options.lcore_map = map.as_ptr();
        options.no_huge = !is_huge;
        // Without hugepages devices have nothing to reach.
        options.no_pci = !is_huge;
        if let Some(mib) = needs.memory_mib.or((!is_huge).then_some(MEMORY_MIB)) {
            options.mem_size = c_int::try_from(mib).unwrap_or(c_int::MAX);
        }
        // What DPDK has to say beside its errors is of use to nobody here.
        options.env_context = c"--log-level=lib.eal:error".as_ptr().cast_mut().cast();
        // SAFETY: the options, and the strings in them, stay during the call.
        let result = unsafe { spdk::spdk_env_init(&raw const options) };
        // It has pinned this thread to one CPU.
        sched_setaffinity(None, &cpus).map_err(StartError::System)?;
        check("environment", result)?;
        // SAFETY: the environment is initialised, and this is the first call.
        let result = unsafe { spdk::spdk_thread_lib_init_ext(None, None, 0, MESSAGES) };
        check("thread library", result)?;
        // SAFETY: the library is initialised.
        let app = unsafe { spdk::spdk_thread_create(c"lunette".as_ptr(), ptr::null()) };
        if app.is_null() {
            return Err(StartError::Spdk { what: "first thread", errno: Errno::NOMEM });
        }
        // SAFETY: nobody else runs it.
        unsafe { spdk::spdk_set_thread(app) };
        Ok(Environment { app, has_dma: is_huge })
    }

    /// Polls the first thread. Whether there was something to do.
    pub(super) fn poll(&self) -> bool {
        // SAFETY: it is this thread's.
        unsafe { spdk::spdk_thread_poll(self.app, 0, 0) > 0 }
    }

    /// Makes the calls of a configuration: those for before the subsystems are there, then those for after. Waits until every
    /// bdev has been looked at by the modules that make bdevs of bdevs.
    pub(super) fn configure(&self, json: &[u8]) -> Result<(), StartError> {
        self.load(json)?;
        let result = self.wait_for(|context| {
            // SAFETY: this is SPDK's first thread; `initialised` takes exactly this.
            unsafe { spdk::spdk_subsystem_init(Some(initialised), context) };
            0
        });
        check("subsystems", result)?;
        // SAFETY: a number is set.
        unsafe { spdk::spdk_rpc_set_state(spdk::SPDK_RPC_RUNTIME) };
        self.load(json)?;
        let result = self.wait_for(|context| {
            // SAFETY: this is a thread of SPDK's; `finished` takes exactly this.
            unsafe { spdk::spdk_bdev_wait_for_examine(Some(finished), context) }
        });
        check("bdevs", result)
    }

    fn load(&self, json: &[u8]) -> Result<(), StartError> {
        let bytes = isize::try_from(json.len()).unwrap_or(isize::MAX);
        let result = self.wait_for(|context| {
            let json = json.as_ptr().cast_mut().cast();
            // SAFETY: SPDK copies the text during the call; this is its first thread; `initialised` takes exactly this.
            unsafe { spdk::spdk_subsystem_load_config(json, bytes, Some(initialised), context, true) };
            0
        });
        if result == 0 { Ok(()) } else { Err(StartError::Config) }
    }

    /// Makes a call that ends by a callback, and polls until that came; what it said, or what the call said if not 0.
    fn wait_for(&self, call: impl FnOnce(*mut c_void) -> c_int) -> c_int {
        let said = Cell::new(None);
        let result = call((&raw const said).cast_mut().cast());
        if result != 0 {
            return result;
        }
        loop {
            if let Some(result) = said.get() {
                return result;
            }
            self.poll();
        }
    }

    /// Takes everything down. No bdev is open and no seat left.
    pub(super) fn end(self) {
        self.wait_for(|context| {
            // SAFETY: this is SPDK's first thread; `finished` takes exactly this.
            unsafe { spdk::spdk_subsystem_fini(Some(finished), context) };
            0
        });
        // SAFETY: it is the current thread.
        unsafe { spdk::spdk_thread_exit(self.app) };
        // SAFETY: the thread lives.
        while !unsafe { spdk::spdk_thread_is_exited(self.app) } {
            self.poll();
        }
        // SAFETY: it has ended.
        unsafe { spdk::spdk_thread_destroy(self.app) };
        // SAFETY: no thread is left.
        unsafe { spdk::spdk_thread_lib_fini() };
        // SAFETY: nothing of SPDK is used any more.
        unsafe { spdk::spdk_env_fini() };
    }
}

unsafe extern "C" fn initialised(result: c_int, context: *mut c_void) {
    // SAFETY: `wait_for` gave it and waits.
    unsafe { &*context.cast::<Cell<Option<c_int>>>() }.set(Some(result));
}

unsafe extern "C" fn finished(context: *mut c_void) {
    // SAFETY: `wait_for` gave it and waits.
    unsafe { &*context.cast::<Cell<Option<c_int>>>() }.set(Some(0));
}

fn check(what: &'static str, result: c_int) -> Result<(), StartError> {
    if result == 0 {
        return Ok(());
    }
    Err(StartError::Spdk { what, errno: status::errno(result) })
}

/// Of 2 MiB, in the whole system.
#[expect(clippy::disallowed_methods, reason = "before anything is served, on a thread of its own")]
fn free_hugepages() -> u64 {
    let text = std::fs::read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").unwrap_or_default();
    String::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What SPDK calls itself.
pub(super) fn version() -> String {
    // SAFETY: a constant of the shim's.
    unsafe { CStr::from_ptr(spdk::lunette_spdk_version()) }.to_string_lossy().into_owned()
}
