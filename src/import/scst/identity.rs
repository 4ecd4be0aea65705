//! Who SCST says a device is: much of it comes from the device's name.

use crate::import::identity::{Field, Identity, designator, is_naa};
use crate::import::report::{Place, Report};
use crate::import::text::crc32c;

/// Bytes of `t10_dev_id`.
const T10_BYTES: usize = 25;

/// What is said of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    usn: Option<String>,
    t10_dev_id: Option<String>,
    t10_vend_id: Option<String>,
    vend_specific_id: Option<String>,
    prod_id: Option<String>,
    prod_rev_lvl: Option<String>,
    naa_id: Option<Vec<u8>>,
    eui64_id: Option<Vec<u8>>,
}

impl Said {
    /// Takes an attribute over; whether it is one of these.
    pub(super) fn take(&mut self, key: &str, value: &str, place: &Place, report: &mut Report) -> bool {
        let slot = match key {
            "usn" => &mut self.usn,
            "t10_dev_id" => &mut self.t10_dev_id,
            "t10_vend_id" => &mut self.t10_vend_id,
            "vend_specific_id" => &mut self.vend_specific_id,
            "prod_id" => &mut self.prod_id,
            "prod_rev_lvl" => &mut self.prod_rev_lvl,
            "naa_id" | "eui64_id" => {
                let bytes = crate::control::identity::bytes(value).map(|bytes| bytes.to_vec());
                if bytes.as_ref().is_none_or(Vec::is_empty) {
                    report.cannot(place, format_args!("{key} {value}: up to 32 hexadecimal digits"));
                } else if key == "naa_id" {
                    self.naa_id = bytes;
                } else {
                    self.eui64_id = bytes;
                }
                return true;
            }
            _ => return false,
        };
        *slot = Some(value.to_owned());
        true
    }

    /// Who that is.
    pub(super) fn identity(
        self,
        name: &str,
        handler: &str,
        setup_id: u64,
        place: &Place,
        report: &mut Report,
    ) -> Identity {
        let number = setup_id << 32 | u64::from(checksum(name));
        let mut identity = Identity::default();
        let vendor = if handler == "vdisk_blockio" { "SCST_BIO" } else { "SCST_FIO" };
        let vendor = self.t10_vend_id.unwrap_or_else(|| vendor.to_owned());
        identity.set(Field::Vendor, &vendor, place, report);
        let product = self.prod_id.unwrap_or_else(|| name.chars().take(16).collect());
        identity.set(Field::Product, &product, place, report);
        match self.prod_rev_lvl {
            Some(revision) => identity.set(Field::Revision, &revision, place, report),
            None => report.changed(place, "the product revision is SCST's version there, and lunette's here"),
        }
        identity.set(Field::Serial, &self.usn.unwrap_or_else(|| format!("{number:x}")), place, report);
        // What SCST makes of the name stays in the T10 designator when another is set for the EUI-64.
        let made: String = format!("{number:x}-{name}").chars().take(T10_BYTES).collect();
        let specific = self.vend_specific_id.unwrap_or_else(|| made.clone());
        let t10 = format!("{vendor:<8}{specific}");
        let mut designators = vec![designator(2, 1, t10.as_bytes())];
        match (self.eui64_id, &self.naa_id) {
            (None, None) => {
                // SCST sends the first eight characters of its identifier as if they were an EUI-64.
                let mut eui64 = [0; 8];
                let id = self.t10_dev_id.unwrap_or(made);
                for (to, byte) in eui64.iter_mut().zip(id.bytes()) {
                    *to = byte;
                }
                identity.eui64 = Some(eui64);
                designators.push(designator(1, 2, &eui64));
            }
            (eui64, naa) => {
                identity.eui64 = eui64.as_deref().and_then(|eui64| eui64.try_into().ok());
                designators.extend(eui64.map(|eui64| designator(1, 2, &eui64)));
                designators.extend(naa.as_ref().map(|naa| designator(1, 3, naa)));
            }
        }
        identity.naa = self.naa_id.filter(|naa| is_naa(naa));
        identity.designators = designators.into_iter().flatten().collect();
        identity
    }
}

/// CRC32C of a name and the zero behind it, without the inversions that others begin and end with.
fn checksum(name: &str) -> u32 {
    crc32c(0, name.bytes().chain([0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_checksum() {
        // With a zero behind the name; worked out by a table-driven CRC32C that gives e3069283h for "123456789" with the usual
        // inversions.
        assert_eq!(checksum("disk1"), 0xb8fdbd32);
        assert_eq!(checksum(""), 0);
    }
}
