//! Text keys of RFC 7143 in other targets' files: theirs are each target's, lunette's are everybody's.

use super::model::{Options, Target};
use super::report::{Place, Report};
use super::text::{number, truth};

/// Keys that lunette negotiates by itself, whatever a file says.
const OWN: &[&str] = &[
    "initialr2t",
    "maxoutstandingr2t",
    "maxburstlength",
    "maxrecvdatasegmentlength",
    "maxxmitdatasegmentlength",
    "initiatorrecvdatasegmentlength",
    "targetrecvdatasegmentlength",
    "datapduinorder",
    "datasequenceinorder",
    "maxoutstandingunexpectedpdus",
    "rdmaextensions",
];
/// Keys that are gone since RFC 7143 (§13.25).
const MARKERS: &[&str] = &["ifmarker", "ofmarker", "ifmarkint", "ofmarkint"];

/// Takes a key over; whether it is one.
pub(super) fn take(
    key: &str,
    value: &str,
    options: &mut Options,
    target: &mut Target,
    place: &Place,
    report: &mut Report,
) -> bool {
    let lower = key.to_ascii_lowercase();
    match lower.as_str() {
        "errorrecoverylevel" => {
            set(&mut options.error_recovery_level, number(value).filter(|n| *n <= 2), key, place, report)
        }
        "maxconnections" => {
            set(
                &mut options.connections_max,
                number(value).filter(|n| (1..=16).contains(n)),
                key,
                place,
                report,
            );
        }
        "firstburstlength" => {
            let sound = |bytes: &u64| (512..=(1 << 24) - 1).contains(bytes);
            set(&mut options.first_burst_bytes, number(value).filter(sound), key, place, report);
        }
        "defaulttime2wait" => set(&mut options.time2wait_seconds, seconds(value), key, place, report),
        "defaulttime2retain" => set(&mut options.time2retain_seconds, seconds(value), key, place, report),
        "immediatedata" => set(&mut options.immediate_data, truth(value), key, place, report),
        "headerdigest" => target.demands_header_digest = demands(key, value, place, report),
        "datadigest" => target.demands_data_digest = demands(key, value, place, report),
        own if OWN.contains(&own) => {
            report.changed(place, format_args!("{key}: lunette negotiates it by itself"))
        }
        marker if MARKERS.contains(&marker) => {
            report.cannot(place, format_args!("{key}: RFC 7143 has no markers any more"));
        }
        _ => return false,
    }
    true
}

fn seconds(value: &str) -> Option<u64> {
    number(value).filter(|seconds| *seconds <= 3600)
}

/// A value for everybody: the first that is given.
fn set<T: PartialEq + Copy + std::fmt::Display>(
    slot: &mut Option<T>,
    value: Option<T>,
    key: &str,
    place: &Place,
    report: &mut Report,
) {
    match (*slot, value) {
        (_, None) => report.cannot(place, format_args!("{key}: its value makes no sense")),
        (None, value) => {
            *slot = value;
            report.changed(place, format_args!("{key}: it is that of all targets from now on"));
        }
        (Some(set), Some(wanted)) if set == wanted => {}
        (Some(set), Some(_)) => {
            report.cannot(place, format_args!("{key}: all targets have the same, which is {set}"));
        }
    }
}

/// Whether a list of digests leaves no choice.
fn demands(key: &str, value: &str, place: &Place, report: &mut Report) -> bool {
    let mut has = [false; 2];
    for one in value.split(',').map(str::trim) {
        match one.to_ascii_lowercase().as_str() {
            "none" => has[0] = true,
            "crc32c" => has[1] = true,
            _ => report.cannot(place, format_args!("{key}: {one:?} is no digest")),
        }
    }
    match has {
        [false, true] => {
            report.maps(place, format_args!("{key}: initiators have to agree to CRC32C"));
            true
        }
        [true, false] => {
            report.changed(place, format_args!("{key}: initiators that ask for CRC32C get it"));
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_everybodys_and_the_first_counts() {
        let (mut options, mut report) = (Options::default(), Report::default());
        let (mut target, place) = (Target::new("iqn.a:b"), Place::new("f", 1));
        let mut taken = |key, value| take(key, value, &mut options, &mut target, &place, &mut report);
        assert!(
            taken("ErrorRecoveryLevel", "2")
                && taken("errorrecoverylevel", "0")
                && taken("HeaderDigest", "CRC32C")
        );
        assert!(
            taken("DataDigest", "None,CRC32C")
                && taken("IFMarker", "Yes")
                && taken("DefaultTime2Wait", "never")
        );
        assert!(!taken("Wthreads", "8"));
        assert_eq!((options.error_recovery_level, options.time2wait_seconds), (Some(2), None));
        assert!(target.demands_header_digest && !target.demands_data_digest);
        assert_eq!(
            report.to_string(),
            "f:1: changed: ErrorRecoveryLevel: it is that of all targets from now on\n\
             f:1: cannot: errorrecoverylevel: all targets have the same, which is 2\n\
             f:1: maps: HeaderDigest: initiators have to agree to CRC32C\n\
             f:1: cannot: IFMarker: RFC 7143 has no markers any more\n\
             f:1: cannot: DefaultTime2Wait: its value makes no sense\n\
             1 kept, 1 changed, 3 cannot"
                .replace("3 cannot", "3 left out")
        );
    }
}
