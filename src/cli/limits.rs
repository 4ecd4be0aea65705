//! Limits of LUNs and initiators, in words.

use crate::rpc::json::Json;

/// What is told of limits, and how it is called.
const LIMITS: &[(&str, &str)] = &[
    ("rw_ios_per_sec", "IO/s"),
    ("rw_mbytes_per_sec", "MB/s"),
    ("r_mbytes_per_sec", "MB/s read"),
    ("w_mbytes_per_sec", "MB/s written"),
    ("guaranteed_ios_per_sec", "IO/s guaranteed"),
    ("guaranteed_mbytes_per_sec", "MB/s guaranteed"),
];

/// The limits that these objects tell of; nothing where there are none.
pub(super) fn words(shown: &[&Json]) -> String {
    let limit = |(name, unit): &(&str, &str)| {
        let value = shown.iter().find_map(|json| json.member(name));
        match value {
            Some(Json::Unsigned(value)) if *value > 0 => Some(format!("{value} {unit}")),
            _ => None,
        }
    };
    LIMITS.iter().filter_map(limit).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::json::object;

    #[test]
    fn what_is_set_is_told() {
        let ceilings = object! { "rw_ios_per_sec": 0u64, "w_mbytes_per_sec": 7u64 };
        let beyond = object! { "guaranteed_ios_per_sec": 5u64, "burst_ms": 50u64 };
        assert_eq!(words(&[&ceilings, &beyond]), "7 MB/s written, 5 IO/s guaranteed");
        assert_eq!(words(&[&object! { "rw_ios_per_sec": 0u64 }, &Json::Null]), "");
    }
}
