//! `lunette nvme`: which controllers there are, and whether the driver gets along with one.

mod perf;
mod probe;

use clap::{Args, Subcommand};

use super::table::table;
use super::{Failed, nvme_discover, print};
use crate::bdev::nvme::pci::list::{self, Listed};
use crate::rpc::json::Json;

/// `lunette nvme`.
#[derive(Clone, Debug, Args)]
pub struct Nvme {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// List NVMe controllers on PCIe: who has them, and who uses their disks
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring a controller up with lunette's driver, say what it is, read a little, and let go of it; nothing is written
    Probe(probe::Probe),
    /// Read at random places with lunette's driver, for some seconds: how many reads a second; nothing is written
    Perf(perf::Perf),
    /// List the subsystems that a discovery controller knows
    Discover(nvme_discover::Discover),
}

/// Runs it.
pub(super) fn nvme(args: &Nvme) -> Result<(), Failed> {
    let text = match &args.what {
        What::List { json: true } => json(&list::controllers()),
        What::List { json: false } => text(&list::controllers()),
        What::Probe(probe) => probe::probe(probe)?,
        What::Perf(perf) => perf::perf(perf)?,
        What::Discover(discover) => nvme_discover::discover(discover)?,
    };
    print(&text)
}

fn text(controllers: &[Listed]) -> String {
    if controllers.is_empty() {
        return "no NVMe controllers on PCIe\n".to_owned();
    }
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let header = ["ADDRESS", "PCI ID", "DRIVER", "IOMMU", "MODEL", "SERIAL", "DISKS", "IN USE"];
    let rows = controllers.iter().map(|one| {
        [
            one.address.to_string(),
            format!("{:04x}:{:04x}", one.ids.0, one.ids.1),
            dash(one.driver.clone()),
            dash(one.iommu_group.map(|group| group.to_string())),
            dash(one.model.clone()),
            dash(one.serial.clone()),
            dash((!one.disks.is_empty()).then(|| one.disks.join(" "))),
            if one.uses.is_empty() { "no".to_owned() } else { one.uses.join(", ") },
        ]
    });
    table(header, rows)
}

fn json(controllers: &[Listed]) -> String {
    let texts = |texts: &[String]| Json::Array(texts.iter().map(Json::from).collect());
    let text = |text: &Option<String>| text.as_ref().map_or(Json::Null, Json::from);
    let one = |one: &Listed| {
        let members = [
            ("address", Json::from(one.address.to_string())),
            ("vendor", Json::from(format!("{:04x}", one.ids.0))),
            ("device", Json::from(format!("{:04x}", one.ids.1))),
            ("driver", text(&one.driver)),
            ("iommu_group", one.iommu_group.map_or(Json::Null, Json::from)),
            ("model", text(&one.model)),
            ("serial", text(&one.serial)),
            ("disks", texts(&one.disks)),
            ("in_use", texts(&one.uses)),
        ];
        Json::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
    };
    let mut text = String::new();
    Json::Array(controllers.iter().map(one).collect()).write_pretty(&mut text);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::nvme::pci::device::Address;

    fn listed() -> Vec<Listed> {
        let ours = Listed {
            address: Address::parse("03:00.0").unwrap(),
            ids: (0x1B36, 0x10),
            model: None,
            serial: None,
            driver: Some("vfio-pci".to_owned()),
            iommu_group: Some(17),
            disks: vec![],
            uses: vec![],
        };
        let kernels = Listed {
            address: Address::parse("01:00.0").unwrap(),
            model: Some("A Disk".to_owned()),
            serial: Some("S1".to_owned()),
            driver: Some("nvme".to_owned()),
            iommu_group: None,
            disks: vec!["nvme0n1".to_owned(), "nvme0n2".to_owned()],
            uses: vec!["nvme0n1 is mounted at /".to_owned()],
            ..ours.clone()
        };
        vec![kernels, ours]
    }

    #[test]
    fn a_table_for_people() {
        assert_eq!(
            text(&listed()),
            "\
ADDRESS       PCI ID     DRIVER    IOMMU  MODEL   SERIAL  DISKS            IN USE
0000:01:00.0  1b36:0010  nvme      -      A Disk  S1      nvme0n1 nvme0n2  nvme0n1 is mounted at /
0000:03:00.0  1b36:0010  vfio-pci  17     -       -       -                no
"
        );
        assert_eq!(text(&[]), "no NVMe controllers on PCIe\n");
    }

    #[test]
    fn json_for_programs() {
        let text = json(&listed()[1..]).split_whitespace().collect::<String>();
        assert_eq!(
            text,
            r#"[{"address":"0000:03:00.0","vendor":"1b36","device":"0010","driver":"vfio-pci","iommu_group":17,"model":null,"serial":null,"disks":[],"in_use":[]}]"#
        );
    }
}
