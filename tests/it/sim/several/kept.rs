//! How long a session is kept that has no connection (RFC 7143 §7.5): Time2Retain, by the world's clock.

use lunette::time::SECOND_NS;

use super::Several;

impl Several {
    /// Whether the first connection logs in.
    fn logs_in_within(&mut self, turns: usize) -> Result<bool, String> {
        for _ in 0..turns {
            self.carry(0, usize::MAX)?;
            self.turn()?;
            if self.lines[0].login.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn conns(&self) -> usize {
        self.world.cores[0].reactor.census().conns
    }
}

/// Time2Wait is 0 and Time2Retain 60 s. The connection is lost; after so long it is there again: whether it may be.
fn is_kept_for(after_ns: u64) -> bool {
    let mut several = Several::new(1, None);
    several.is_calm = true;
    let first = several.dial(1, 0);
    several.lines.push(first);
    assert_eq!(several.logs_in_within(200), Ok(true));
    several.lines[0].wire.reset();
    for _ in 0..20 {
        several.turn().unwrap();
    }
    assert_eq!(several.conns(), 1, "it has just been lost");
    several.world.now = several.world.now.after_ns(after_ns);
    for _ in 0..20 {
        several.turn().unwrap();
    }
    let is_kept = several.conns() == 1;
    several.replace(0);
    assert_eq!(several.logs_in_within(200) == Ok(true), is_kept);
    is_kept
}

#[test]
fn a_session_without_a_connection_is_kept_for_time2retain_and_no_longer() {
    assert!(is_kept_for(59 * SECOND_NS));
    assert!(!is_kept_for(60 * SECOND_NS));
}
