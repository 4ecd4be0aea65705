use std::sync::Arc;

use super::*;

const READ: Asked = Asked { is_read: true, bytes: 4096 };
const WRITE: Asked = Asked { is_read: false, bytes: 4096 };

fn ms(ms: u64) -> Tick {
    Tick::from_ns(ms * MS_NS)
}

fn pace(limits: Limits) -> Pace {
    Pace::new(Limits { burst_ns: 2 * MS_NS, ..limits })
}

fn of(unit: &Pace) -> Paces<'_> {
    Paces { unit: Some(unit), initiator: None }
}

#[test]
fn commands_begin_at_the_rate_behind_a_burst() {
    let unit = pace(Limits { ios: 1000, ..Limits::NONE });
    let begins: Vec<u64> = (0..6).map(|_| of(&unit).book(READ, ms(100)).at.ns() / MS_NS).collect();
    // Two of the milliseconds before were nobody's.
    assert_eq!(begins, [98, 99, 100, 101, 102, 103]);
    // Not more than those.
    assert_eq!(of(&unit).book(WRITE, ms(500)).at, ms(498));
}

#[test]
fn time_that_is_given_back_is_the_next_ones() {
    let unit = pace(Limits { ios: 1000, ..Limits::NONE });
    for begins in 98..101 {
        assert_eq!(of(&unit).book(READ, ms(100)).at, ms(begins));
    }
    of(&unit).give_back(READ);
    assert_eq!(of(&unit).book(READ, ms(100)).at, ms(100));
}

#[test]
fn bytes_count_by_their_direction() {
    // 4096 bytes take 1 ms, 4 ms and 2 ms.
    let (bytes, read_bytes, write_bytes) = (4_096_000, 1_024_000, 2_048_000);
    let all = pace(Limits { bytes, ..Limits::NONE });
    let each = pace(Limits { read_bytes, write_bytes, ..Limits::NONE });
    let begins = |pace: &Pace, asked| of(pace).book(asked, ms(100)).at.ns() / MS_NS;
    assert_eq!([READ, WRITE, READ].map(|asked| begins(&all, asked)), [98, 99, 100]);
    assert_eq!([READ, WRITE, READ, WRITE].map(|asked| begins(&each, asked)), [98, 98, 102, 100]);
    // What moves nothing is counted as an IO only.
    assert_eq!(begins(&all, Asked { is_read: true, bytes: 0 }), 0);
    assert_eq!(begins(&all, READ), 101);
}

#[test]
fn the_slowest_ceiling_decides() {
    let unit = pace(Limits { ios: 1000, bytes: 4_096_000, ..Limits::NONE });
    let initiator = pace(Limits { ios: 100, ..Limits::NONE });
    let both = Paces { unit: Some(&unit), initiator: Some(&initiator) };
    assert_eq!([(); 3].map(|()| both.book(READ, ms(100)).at), [ms(98), ms(108), ms(118)]);
    // Others at the unit wait for what was booked there, not for that initiator.
    assert_eq!(of(&unit).book(READ, ms(100)).at, ms(101));
    assert_eq!(Paces { unit: None, initiator: None }.book(READ, ms(100)).at, Tick::ZERO);
}

#[test]
fn the_ceiling_that_decides_is_told() {
    let unit = pace(Limits { ios: 1000, ..Limits::NONE });
    let initiator = pace(Limits { ios: 100, guaranteed_ios: 200, ..Limits::NONE });
    let both = Paces { unit: Some(&unit), initiator: Some(&initiator) };
    assert_eq!(of(&unit).book(READ, ms(100)).by, Whose::Unit);
    assert_eq!([(); 2].map(|()| both.book(READ, ms(100)).by), [Whose::Unit, Whose::Initiator]);
    // What others have booked at the unit would be later than the guarantee, which is earlier than the own ceiling.
    for _ in 0..100 {
        of(&unit).book(READ, ms(100));
    }
    assert_eq!(both.book(READ, ms(100)), Booked { at: ms(118), by: Whose::Initiator });
}

#[test]
fn who_has_waited_is_counted_whatever_is_set_then() {
    let waits: Arc<Waits> = Arc::default();
    let [one, other] = [100, 200]
        .map(|ios| Limits { ios, ..Limits::NONE })
        .map(|limits| Pace::counting(limits, Arc::clone(&waits)));
    one.waits().add(30);
    other.waits().add(12);
    assert_eq!(waits.waited(), Waited { commands: 2, ns: 42 });
    assert_eq!(Pace::new(Limits::NONE).waits().waited(), Waited::default());
}

#[test]
fn what_is_guaranteed_does_not_wait_for_others_and_counts_all_the_same() {
    let unit = pace(Limits { ios: 1000, ..Limits::NONE });
    let guaranteed = pace(Limits { guaranteed_ios: 500, ..Limits::NONE });
    for _ in 0..100 {
        of(&unit).book(READ, ms(100));
    }
    let favoured = Paces { unit: Some(&unit), initiator: Some(&guaranteed) };
    // 2 ms each, and not the 198 ms that it is behind the others.
    assert_eq!([(); 3].map(|()| favoured.book(READ, ms(100)).at), [ms(98), ms(100), ms(102)]);
    assert_eq!(of(&unit).book(READ, ms(100)).at, ms(201));
    // It has no more of it than there is where it need not wait.
    favoured.give_back(READ);
    assert_eq!(favoured.book(READ, ms(300)).at, ms(298));
    assert_eq!(favoured.book(READ, ms(300)).at, ms(299));
}

#[test]
fn a_guarantee_excuses_from_no_ceiling_of_ones_own() {
    let unit = pace(Limits { ios: 1000, guaranteed_ios: 1_000_000, ..Limits::NONE });
    let begins: Vec<u64> = (0..4).map(|_| of(&unit).book(READ, ms(100)).at.ns() / MS_NS).collect();
    assert_eq!(begins, [98, 99, 100, 101]);
}

#[test]
fn high_rates_are_kept_and_low_ones_do_not_overflow() {
    let fast = pace(Limits { ios: 3_000_000, ..Limits::NONE });
    for _ in 0..300_000 {
        of(&fast).book(READ, ms(2));
    }
    let end = of(&fast).book(READ, ms(2)).at.ns();
    assert!((99_900_000..=100_000_000).contains(&end), "{end}");
    let slow = pace(Limits { bytes: 1, ..Limits::NONE });
    let long = Asked { is_read: false, bytes: u32::MAX };
    assert_eq!(of(&slow).book(long, ms(2)).at, Tick::ZERO);
    for _ in 0..3 {
        of(&slow).book(long, ms(2));
    }
    assert_eq!(of(&slow).book(long, ms(2)).at.ns(), u64::MAX.div_ceil(PARTS));
}

#[test]
fn reactors_share_one_ceiling() {
    let unit = Arc::new(pace(Limits { ios: 1000, ..Limits::NONE }));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let unit = Arc::clone(&unit);
            std::thread::spawn(move || {
                (0..1000).map(|_| of(&unit).book(READ, ms(100)).at).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut begins: Vec<Tick> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    begins.sort();
    // No moment twice, none left out.
    assert!(begins.iter().copied().eq((98..4098).map(ms)));
}

#[test]
fn nothing_is_none() {
    assert!(Limits::NONE.is_none() && Limits { burst_ns: 1, ..Limits::NONE }.is_none());
    assert!(!Limits { write_bytes: 1, ..Limits::NONE }.is_none());
    assert!(!Limits { guaranteed_bytes: 1, ..Limits::NONE }.is_none());
}
