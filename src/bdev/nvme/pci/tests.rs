//! Rings, queues and the transport over memory that no device looks at, and registers that a test sets.

mod queue;
mod transport;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::registers::{CC, CSTS};
use crate::bdev::nvme::bus::{Bus, DeviceAddresses, Mapping};

/// What a controller does when CC.EN changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    /// It follows.
    Obeys,
    /// CSTS stays as it is.
    Sleeps,
    /// It reports a fatal state when it is enabled.
    Dies,
}

/// Registers in memory. Device addresses are 0x10_0000_0000 above the process's.
#[derive(Debug)]
struct TestBus {
    registers: Mutex<Vec<u32>>,
    habit: Mutex<Habit>,
    /// What was written, in order: offset and value.
    written: Mutex<Vec<(usize, u32)>>,
    unmapped: Mutex<Vec<Mapping>>,
    is_fenced: AtomicBool,
    resets: Mutex<Result<u32, String>>,
    /// Bus mastering; none where it cannot be switched off.
    has_access: Mutex<Option<bool>>,
}

const OFFSET: u64 = 0x10_0000_0000;

impl TestBus {
    /// CAP: 1024 entries, TO 1 s, doorbells 8 bytes apart, NVM command set. VS: 1.4.
    fn new(habit: Habit) -> Arc<TestBus> {
        let mut registers = vec![0; 2048];
        registers[0] = 0x0200_03FF;
        registers[1] = 0x0000_0021;
        registers[2] = 0x0001_0400;
        Arc::new(TestBus {
            registers: Mutex::new(registers),
            habit: Mutex::new(habit),
            written: Mutex::default(),
            unmapped: Mutex::default(),
            is_fenced: AtomicBool::new(true),
            resets: Mutex::new(Ok(0)),
            has_access: Mutex::new(None),
        })
    }

    fn set(&self, offset: usize, value: u32) {
        self.registers.lock().unwrap()[offset / 4] = value;
    }

    fn behave(&self, habit: Habit) {
        *self.habit.lock().unwrap() = habit;
    }

    /// What was written since this was last asked.
    fn written(&self) -> Vec<(usize, u32)> {
        std::mem::take(&mut self.written.lock().unwrap())
    }
}

impl Bus for TestBus {
    fn read32(&self, offset: usize) -> u32 {
        self.registers.lock().unwrap()[offset / 4]
    }

    fn write32(&self, offset: usize, value: u32) {
        self.written.lock().unwrap().push((offset, value));
        self.set(offset, value);
        if offset == CC {
            let shut_down = if value >> 14 & 3 != 0 { 2 << 2 } else { 0 };
            match *self.habit.lock().unwrap() {
                Habit::Obeys => self.set(CSTS, value & 1 | shut_down),
                Habit::Dies => self.set(CSTS, (value & 1) << 1),
                Habit::Sleeps => {}
            }
        }
    }

    fn register_bytes(&self) -> usize {
        8192
    }

    fn map(&self, base: usize, bytes: usize) -> Result<Mapping, String> {
        Ok(Mapping { base, bytes, device: DeviceAddresses::Contiguous(base as u64 + OFFSET) })
    }

    fn unmap(&self, mapping: &Mapping) {
        self.unmapped.lock().unwrap().push(mapping.clone());
    }

    fn is_fenced_by_unmap(&self) -> bool {
        self.is_fenced.load(Ordering::Relaxed)
    }

    fn set_access(&self, is_on: bool) -> Result<(), String> {
        match &mut *self.has_access.lock().unwrap() {
            Some(has_access) => *has_access = is_on,
            None if is_on => {}
            None => return Err("no switch".to_owned()),
        }
        Ok(())
    }

    fn reset(&self) -> Result<(), String> {
        let mut resets = self.resets.lock().unwrap();
        *resets.as_mut().map_err(|why| why.clone())? += 1;
        Ok(())
    }
}
