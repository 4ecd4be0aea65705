//! `--cores`: which CPUs reactors run on.

use std::collections::BTreeSet;

/// Why a core list is none. Says what is wrong with which part.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoresError {
    /// Nothing there.
    #[error("--cores names no CPU; give a hex mask as 0x3 or a list as 0,2-3")]
    Empty,
    /// Not a number.
    #[error("--cores: {0:?} is not a CPU number; give a hex mask as 0x3 or a list as 0,2-3")]
    Number(String),
    /// Not a mask.
    #[error("--cores: {0:?} is not a hex mask as 0x3")]
    Mask(String),
    /// The wrong way round.
    #[error("--cores: the range {0:?} goes backwards")]
    Backwards(String),
    /// A CPU that cannot be had.
    #[error("--cores: CPU {cpu} is not one that this process may use ({})", ranges(.allowed))]
    NotAllowed {
        /// Which.
        cpu: usize,
        /// Those that can.
        allowed: BTreeSet<usize>,
    },
}

/// Reads a hex mask (`0x3`) or a list (`0,2-3`, also in brackets). Every CPU is one of `allowed`; they come in ascending
/// order, each once.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str, allowed: &BTreeSet<usize>) -> Result<Vec<usize>, CoresError> {
    let text = text.trim();
    let cpus = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => mask(digits, text)?,
        None => {
            list(text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text), allowed)?
        }
    };
    if cpus.is_empty() {
        return Err(CoresError::Empty);
    }
    match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(&cpu) => Err(CoresError::NotAllowed { cpu, allowed: allowed.clone() }),
        None => Ok(cpus.into_iter().collect()),
    }
}

fn mask(digits: &str, text: &str) -> Result<BTreeSet<usize>, CoresError> {
    let mut cpus = BTreeSet::new();
    if digits.is_empty() {
        return Err(CoresError::Mask(text.to_owned()));
    }
    for (position, digit) in digits.chars().rev().enumerate() {
        let value = digit.to_digit(16).ok_or_else(|| CoresError::Mask(text.to_owned()))?;
        cpus.extend((0..4).filter(|bit| value & 1 << bit != 0).map(|bit| position * 4 + bit));
    }
    Ok(cpus)
}

fn list(text: &str, allowed: &BTreeSet<usize>) -> Result<BTreeSet<usize>, CoresError> {
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| CoresError::Number(text.to_owned()));
    let mut cpus = BTreeSet::new();
    if text.is_empty() {
        return Ok(cpus);
    }
    for part in text.split(',') {
        let Some((first, last)) = part.split_once('-') else {
            cpus.insert(number(part)?);
            continue;
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(CoresError::Backwards(part.to_owned()));
        }
        // Refused here already: a range can be very long.
        if let Some(cpu) = (first..=last).find(|cpu| !allowed.contains(cpu)) {
            return Err(CoresError::NotAllowed { cpu, allowed: allowed.clone() });
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// `0-3,7`.
fn ranges(cpus: &BTreeSet<usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let run = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

/// The CPUs that this process may use.
///
/// # Errors
/// The kernel does not say.
pub fn allowed() -> std::io::Result<BTreeSet<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<usize>, CoresError> {
        parse(text, &BTreeSet::from([0, 1, 2, 3, 5, 64]))
    }

    #[test]
    fn masks_and_lists() {
        for (text, expected) in [
            ("0x3", &[0, 1][..]),
            ("0X2f", &[0, 1, 2, 3, 5]),
            ("0x10000000000000001", &[0, 64]),
            ("0", &[0]),
            ("0,2-3", &[0, 2, 3]),
            ("3,0,3", &[0, 3]),
            ("[0,5]", &[0, 5]),
            (" 1 - 2 ", &[1, 2]),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, expected) in [
            ("", "--cores names no CPU; give a hex mask as 0x3 or a list as 0,2-3"),
            ("0x0", "--cores names no CPU; give a hex mask as 0x3 or a list as 0,2-3"),
            ("0x", "--cores: \"0x\" is not a hex mask as 0x3"),
            ("0x3g", "--cores: \"0x3g\" is not a hex mask as 0x3"),
            ("0,a", "--cores: \"a\" is not a CPU number; give a hex mask as 0x3 or a list as 0,2-3"),
            ("0,,1", "--cores: \"\" is not a CPU number; give a hex mask as 0x3 or a list as 0,2-3"),
            ("-1", "--cores: \"\" is not a CPU number; give a hex mask as 0x3 or a list as 0,2-3"),
            ("3-1", "--cores: the range \"3-1\" goes backwards"),
            ("4", "--cores: CPU 4 is not one that this process may use (0-3,5,64)"),
            ("0-4000000000", "--cores: CPU 4 is not one that this process may use (0-3,5,64)"),
            ("0x10", "--cores: CPU 4 is not one that this process may use (0-3,5,64)"),
        ] {
            assert_eq!(parsed(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn this_process_may_use_some_cpu() {
        assert!(!allowed().unwrap().is_empty());
    }
}
