//! What hosts write and read back, log pages, diagnostics: byte by byte.

use std::sync::Arc;

use super::{answered, cdb, planned, refused, target, unit};
use crate::bdev::count::Counted;
use crate::bdev::null::Null;
use crate::bdev::space::Temperature;
use crate::bdev::{Bdev, Io, Op};
use crate::buf::{Class, Pool};
use crate::id::{NexusId, ReactorId, UnitId};
use crate::scsi::buffers::Buffers;
use crate::scsi::copy::Results;
use crate::scsi::report::identifying::Identifying;
use crate::scsi::report::timestamp::Clock;
use crate::scsi::report::{self, Facts};
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, Settings, UnitView};
use crate::scsi::{Place, Plan, Status};
use crate::slab::Key;
use crate::time::Tick;

/// What `bytes` are answered with at a time, with what was written into buffers.
fn told(bytes: &[u8], unit: &UnitView, nexus: u32, now: Tick, buffers: &Buffers) -> Result<Vec<u8>, Sense> {
    let target = target();
    let nexus = NexusId(nexus);
    let place = Place { nexus, target: &target, number: LunNumber(0), unit: Some((unit, false)) };
    let Plan::Report(report) = planned(bytes, unit) else { panic!("{bytes:02x?} makes no report") };
    let mut out = vec![0xee; 8192];
    let length = report::fill(
        &report,
        &place,
        Facts {
            protocol_level: 0,
            attentions: None,
            now,
            buffers,
            copies: &Results::default(),
            tokens: None,
            allocation: None,
        },
        &mut out,
    )?;
    out.truncate(length);
    Ok(out)
}

fn log(page: u8, subpage: u8, from: u8) -> [u8; 10] {
    [0x4d, 0, 0x40 | page, subpage, 0, 0, from, 0, 0xff, 0]
}

#[test]
fn log_pages() {
    let ask = |bytes: &[u8]| answered(bytes, Some(&unit()), None);
    assert_eq!(ask(&log(0x00, 0, 0)), [0x00, 0, 0, 3, 0x00, 0x0d, 0x2f]);
    assert_eq!(ask(&log(0x00, 0xff, 0)), [0x40, 0xff, 0, 8, 0x00, 0, 0x00, 0xff, 0x0d, 0, 0x2f, 0]);
    let temperature = [0x0d, 0, 0, 12, 0, 0, 3, 2, 0, 0xff, 0, 1, 3, 2, 0, 0xff];
    assert_eq!(ask(&log(0x0d, 0, 0)), temperature);
    assert_eq!(ask(&log(0x0d, 0, 1)), [0x0d, 0, 0, 6, 0, 1, 3, 2, 0, 0xff]);
    assert_eq!(ask(&log(0x2f, 0, 0)), [0x2f, 0, 0, 8, 0, 0, 3, 4, 0, 0, 0xff, 0]);
    assert_eq!(refused(&log(0x0d, 0, 2), &unit()), Sense::invalid_byte(5), "no such parameter");
    assert_eq!(refused(&log(0x10, 0, 0), &unit()), Sense::invalid_bit(2, 5), "no such page");
    assert_eq!(refused(&log(0x0d, 1, 0), &unit()), Sense::invalid_byte(3), "no such subpage");
    assert_eq!(refused(&[0x4d, 1, 0x40, 0, 0, 0, 0, 0, 4, 0], &unit()), Sense::invalid_bit(1, 0), "SP");
}

#[test]
fn a_device_that_tells_its_temperature_has_it_in_both_pages() {
    let temperature = Arc::new(Temperature::default());
    let unit = UnitView { temperature: Some(Arc::clone(&temperature)), ..unit() };
    let shown = || {
        let of = |page, at: usize| answered(&log(page, 0, 0), Some(&unit), None)[at];
        (of(0x0d, 9), of(0x2f, 10))
    };
    // Before it was measured, and of a controller that does not answer, nothing is known.
    assert_eq!(shown(), (0xff, 0xff));
    for (kelvin, celsius) in [(315, 42), (273, 0), (200, 0), (600, 254), (0, 0xff)] {
        temperature.set_kelvin(Some(kelvin));
        assert_eq!(shown(), (celsius, celsius), "{kelvin}");
    }
    temperature.set_kelvin(Some(315));
    temperature.set_kelvin(None);
    assert_eq!(shown(), (0xff, 0xff));
    let reference = &answered(&log(0x0d, 0, 1), Some(&unit), None)[4..];
    assert_eq!(*reference, [0, 1, 3, 2, 0, 0xff], "nobody tells that");
}

#[test]
fn statistics() {
    let disk = Counted::new(Arc::new(Null::new("Null0".to_owned(), 1000, 512, [7; 16])));
    let unit = UnitView { ledger: disk.ledger(), ..unit() };
    let ask = |bytes: &[u8]| answered(bytes, Some(&unit), None);
    let pool = Pool::ordinary(&[Class { bytes: 16384, count: 8 }]).unwrap();
    let at = Tick::from_ns;
    // Two reactors: 20 ns for each IO, and 30.
    for reactor in [0, 1] {
        let mut channel = disk.open(ReactorId(reactor));
        for (index, op) in [
            (0, Op::Read { lba: 0, blocks: 3 }),
            (1, Op::Write { lba: 0, blocks: 2, fua: false }),
            (2, Op::Unmap { lba: 0, blocks: 9 }),
            (3, Op::Flush),
        ] {
            let data = matches!(op, Op::Read { .. } | Op::Write { .. }).then(|| pool.take(2048).unwrap());
            channel.submit(Io { tag: Key { index, generation: 0 }, op, data }, at(100)).unwrap();
            channel.poll(&mut Vec::with_capacity(8), 8, at(120 + 10 * u64::from(reactor)));
        }
    }
    let access = |fields: [u8; 8]| {
        let wide = fields.iter().flat_map(|field| [0, 0, 0, 0, 0, 0, 0, *field]);
        [0, 1, 0x22, 64].into_iter().chain(wide).collect::<Vec<u8>>()
    };
    let idle = [0, 2, 0x22, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let interval = [0, 3, 3, 8, 0, 0, 0, 9, 0, 0, 0, 1];
    // Reads, writes with unmaps, blocks that came, blocks that went, nanoseconds; nothing is weighted.
    let counted = access([2, 4, 4, 6, 50, 100, 0, 0]);
    assert_eq!(ask(&log(0x19, 0, 0)), [&[0x19, 0, 0, 92][..], &counted, &idle, &interval].concat());
    assert_eq!(ask(&log(0x19, 0, 2)), [&[0x19, 0, 0, 24][..], &idle, &interval].concat());
    assert_eq!(ask(&log(0x19, 0, 3)), [&[0x19, 0, 0, 12][..], &interval].concat());
    assert_eq!(refused(&log(0x19, 0, 4), &unit), Sense::invalid_byte(5));
    // Thresholds and defaults.
    for control in [0, 2, 3] {
        let mut cdb = log(0x19, 0, 0);
        cdb[2] = control << 6 | 0x19;
        assert_eq!(ask(&cdb)[4..72], access([0; 8]), "{control}");
    }
    assert_eq!(ask(&log(0x00, 0, 0)), [0x00, 0, 0, 4, 0x00, 0x0d, 0x19, 0x2f]);
    // What the operator forgets goes on counting here.
    disk.forget_counts();
    assert_eq!(ask(&log(0x19, 0, 0))[4..72], counted);
}

#[test]
fn diagnostics() {
    let ask = |bytes: &[u8]| answered(bytes, Some(&unit()), None);
    assert_eq!(ask(&[0x1c, 1, 0, 0, 255, 0]), [0, 0, 0, 1, 0]);
    assert_eq!(ask(&[0x1c, 0, 9, 0, 3, 0]), [0, 0, 0], "without PCV the page code means nothing");
    assert_eq!(refused(&[0x1c, 1, 0x40, 0, 255, 0], &unit()), Sense::invalid_byte(2));

    assert_eq!(planned(&[0x1d, 0, 0, 0, 0, 0], &unit()), Plan::End(Status::Good));
    for self_test in [0x04, 0x07, 0xa0] {
        let Plan::Work(work) = planned(&[0x1d, self_test, 0, 0, 0, 0], &unit()) else { panic!() };
        assert_eq!(work.data_bytes(512), 0);
        assert_eq!(refused(&[0x1d, self_test, 0, 0, 4, 0], &unit()), Sense::invalid_byte(3));
    }
    // In the background, extended, aborting one; a code and SELFTEST.
    for other in [0x20, 0x40, 0x80, 0xc0, 0xa4] {
        assert_eq!(refused(&[0x1d, other, 0, 0, 0, 0], &unit()), Sense::invalid_bit(1, 7));
    }
    assert_eq!(refused(&[0x1d, 0, 0, 0, 4, 0], &unit()), Sense::invalid_bit(1, 4), "without PF");
    let Plan::Work(list) = planned(&[0x1d, 0x10, 0, 0, 4, 0], &unit()) else { panic!() };
    assert_eq!(list.data_bytes(512), 4);
}

#[test]
fn timestamps() {
    let ask = |unit: &UnitView, ms: u64| {
        let bytes = [0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
        told(&bytes, unit, 1, Tick::from_ns(ms * 1_000_000), &Buffers::default()).unwrap()
    };
    assert_eq!(ask(&unit(), 0x0102), [0, 10, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
    let list = [9, 9, 9, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0, 9, 9];
    let clock = Clock::set(&list, Tick::from_ns(0x05_000_000)).unwrap();
    let set = UnitView { settings: Settings { clock, ..Settings::default() }, ..unit() };
    // Set at 83 ms (0500_0000h ns), looked at 15 ms later, and 33 ms later, past the end of 48 bits.
    assert_eq!(ask(&set, 98), [0, 10, 2, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    assert_eq!(ask(&set, 116), [0, 10, 2, 0, 0, 0, 0, 0, 0, 0x11, 0, 0]);

    let change = |bytes| planned(&[0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, bytes, 0, 0], &unit());
    assert_eq!(change(0), Plan::End(Status::Good));
    assert_eq!(change(12), Plan::Ask { parameter_bytes: 12 });
    assert_eq!(change(11), Plan::Refuse(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(Clock::set(&list[..11], Tick::ZERO), Err(Sense::PARAMETER_LIST_LENGTH));
}

#[test]
fn identifying_information() {
    let set = |what: u8, bytes: u8| [0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, bytes, what, 0];
    let given = Identifying::default().set(&cdb(&set(0x00, 3)), b"\x00\xffx").unwrap();
    let given = given.set(&cdb(&set(0x04, 5)), b"disk\0").unwrap();
    let unit =
        UnitView { settings: Settings { identifying: given.clone(), ..Settings::default() }, ..unit() };
    let ask = |what| answered(&[0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 4, what, 0], Some(&unit), None);
    assert_eq!(ask(0x00), [0, 0, 0, 3, 0, 0xff, b'x']);
    assert_eq!(ask(0x04), *b"\0\0\0\x05disk\0");
    assert_eq!(ask(0xfe), [0, 0, 0, 8, 0x00, 0, 0, 64, 0x04, 0, 1, 0]);
    assert_eq!(refused(&[0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 4, 0x02, 0], &unit), Sense::invalid_bit(10, 7));

    assert_eq!(planned(&set(0x00, 64), &unit), Plan::Ask { parameter_bytes: 64 });
    assert_eq!(planned(&set(0x00, 65), &unit), Plan::Refuse(Sense::invalid_byte(6)));
    assert_eq!(planned(&set(0xfe, 4), &unit), Plan::Refuse(Sense::invalid_bit(10, 7)));
    assert_eq!(given.set(&cdb(&set(0x00, 0)), b"").unwrap().unit, b"");
    assert_eq!(given.set(&cdb(&set(0x00, 3)), b"ab"), Err(Sense::PARAMETER_LIST_LENGTH));
    for text in [&b"no"[..], b"a\0\0", b"\xff\0"] {
        let bytes = u8::try_from(text.len()).unwrap();
        assert_eq!(given.set(&cdb(&set(0x04, bytes)), text), Err(Sense::invalid_parameter(0)), "{text:?}");
    }
}

/// Writes into a buffer of nexus 1.
fn write(buffers: &mut Buffers, bytes: &[u8], data: &[u8]) {
    let Plan::Keep(write) = planned(bytes, &unit()) else { panic!("{bytes:02x?} keeps nothing") };
    assert_eq!(usize::from(write.bytes()), data.len());
    buffers.write(write, NexusId(1), UnitId(3), data);
}

#[test]
fn buffers_are_read_back() {
    let mut buffers = Buffers::default();
    let read = |buffers: &Buffers, nexus, bytes: &[u8]| told(bytes, &unit(), nexus, Tick::ZERO, buffers);
    let (echo, data) = ([0x3c, 0x0a, 0, 0, 0, 0, 0, 0, 16, 0], [0x3c, 2, 0, 0, 0x0f, 0xfd, 0, 0, 16, 0]);
    assert_eq!(read(&buffers, 1, &echo), Err(Sense::COMMAND_SEQUENCE), "nothing was written");
    assert_eq!(read(&buffers, 1, &data), Ok(vec![0, 0, 0]));
    write(&mut buffers, &[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 3, 0], b"abc");
    write(&mut buffers, &[0x3b, 2, 0, 0, 0x0f, 0xfe, 0, 0, 2, 0], b"yz");
    assert_eq!(read(&buffers, 1, &echo), Ok(b"abc".to_vec()));
    assert_eq!(read(&buffers, 1, &data), Ok(b"\0yz".to_vec()));
    assert_eq!(read(&buffers, 2, &echo), Err(Sense::COMMAND_SEQUENCE), "another nexus's");
    write(&mut buffers, &[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0], b"d");
    assert_eq!(read(&buffers, 1, &echo), Ok(b"d".to_vec()));

    assert_eq!(read(&buffers, 1, &[0x3c, 3, 0, 0, 0, 0, 0, 0, 4, 0]), Ok(vec![0, 0, 0x10, 0]));
    assert_eq!(read(&buffers, 1, &[0x3c, 3, 1, 0, 0, 0, 0, 0, 4, 0]), Ok(vec![0, 0, 0, 0]));
    assert_eq!(read(&buffers, 1, &[0x3c, 0x0b, 0, 0, 0, 0, 0, 0, 4, 0]), Ok(vec![1, 0, 0x10, 0]));
}

#[test]
fn buffers_have_an_end_and_no_microcode() {
    let refused = |bytes: &[u8]| refused(bytes, &unit());
    assert_eq!(refused(&[0x3b, 2, 1, 0, 0, 0, 0, 0, 1, 0]), Sense::invalid_byte(2));
    assert_eq!(refused(&[0x3b, 2, 0, 0, 0x10, 0, 0, 0, 1, 0]), Sense::invalid_byte(3));
    assert_eq!(refused(&[0x3b, 2, 0, 0, 0x0f, 0xff, 0, 0, 2, 0]), Sense::invalid_byte(6));
    assert_eq!(refused(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0x10, 1, 0]), Sense::invalid_byte(6));
    assert_eq!(refused(&[0x3c, 2, 0, 0, 0x10, 0, 0, 0, 1, 0]), Sense::invalid_byte(3));
    assert_eq!(planned(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0], &unit()), Plan::End(Status::Good));
    for mode in [0x00, 0x04, 0x05, 0x0d, 0x0e, 0x0f] {
        assert_eq!(refused(&[0x3b, mode, 0, 0, 0, 0, 0, 0, 1, 0]), Sense::invalid_bit(1, 4));
    }
    assert_eq!(refused(&[0x3c, 0x22, 0, 0, 0, 0, 0, 0, 1, 0]), Sense::invalid_bit(1, 7));
}

#[test]
fn what_was_written_long_ago_is_forgotten() {
    let mut buffers = Buffers::default();
    let echo = [0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0];
    let Plan::Keep(write) = planned(&echo, &unit()) else { panic!() };
    for nexus in 0..17 {
        buffers.write(write, NexusId(nexus), UnitId(3), &[7]);
    }
    let read = |nexus| told(&[0x3c, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0], &unit(), nexus, Tick::ZERO, &buffers);
    assert_eq!(read(0), Err(Sense::COMMAND_SEQUENCE));
    for nexus in 1..17 {
        assert_eq!(read(nexus), Ok(vec![7]), "{nexus}");
    }
}
