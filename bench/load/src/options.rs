//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

use crate::error::LoadError;

/// Puts load on an iSCSI target, or on lunette-wire, and measures it.
#[derive(Debug, Clone, Parser)]
#[command(name = "lunette-load", version)]
pub struct Options {
    /// Speak to lunette-wire instead of a target: no login
    #[arg(long)]
    pub wire: bool,
    /// Where the target listens
    #[arg(long, value_name = "IP:PORT")]
    pub portal: SocketAddr,
    /// Its name [default: the only one that the portal has]
    #[arg(long, value_name = "IQN", conflicts_with = "wire")]
    pub target: Option<String>,
    /// Logical units, by number; each connection uses all of them in turn. Repeatable
    #[arg(long = "lun", value_name = "N", default_value = "0", conflicts_with = "wire")]
    pub luns: Vec<u16>,
    /// Sessions, each of one connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub connections: u32,
    /// read, write (both sequential), randread, randwrite, or mixed:PERCENT (random, PERCENT of them reads)
    #[arg(long, value_name = "HOW", default_value = "randread")]
    pub rw: Access,
    /// Bytes of one IO: 4096, 64K, 1M
    #[arg(long, value_name = "BYTES", default_value = "4096", value_parser = io_bytes)]
    pub bs: u32,
    /// IOs in flight per connection
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub qd: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// How long to run before that
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub warmup: f64,
    /// Open loop: begin so many IOs a second in all, whatever the target does, and count latency from when each was to
    /// begin [default: closed loop, the next IO when one ends]
    #[arg(long, value_name = "IOPS")]
    pub rate: Option<f64>,
    /// Insist on HeaderDigest=CRC32C
    #[arg(long, conflicts_with = "wire")]
    pub header_digest: bool,
    /// Insist on DataDigest=CRC32C
    #[arg(long, conflicts_with = "wire")]
    pub data_digest: bool,
    /// Write a pattern of address and generation, and check what is read
    #[arg(long)]
    pub verify: bool,
    /// Use the first BYTES of each logical unit [default: all]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub span: Option<u64>,
    /// Run on this CPU
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// More sessions, which do nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub idle: u32,
    /// Authenticate by CHAP under this name
    #[arg(long, value_name = "U", requires = "chap_secret_file", conflicts_with = "wire")]
    pub chap_user: Option<String>,
    /// A file with the secret; a newline at its end does not count
    #[arg(long, value_name = "F", requires = "chap_user")]
    pub chap_secret_file: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// No line of progress on a terminal
    #[arg(long)]
    pub quiet: bool,
    /// Offer ImmediateData=No and InitialR2T=Yes: all data of writes are solicited
    #[arg(long, conflicts_with = "wire")]
    pub no_immediate: bool,
    /// InitiatorName
    #[arg(long, value_name = "IQN", default_value = "iqn.2026-11.io.example:load", conflicts_with = "wire")]
    pub initiator: String,
    /// Where random numbers begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// `--rw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Any block next, or the following one.
    pub is_random: bool,
    /// How many of 100 IOs read.
    pub read_percent: u8,
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_random, read_percent) = match text {
            "read" => (false, 100),
            "write" => (false, 0),
            "randread" => (true, 100),
            "randwrite" => (true, 0),
            _ => {
                let percent = text.strip_prefix("mixed:").and_then(|percent| percent.parse().ok());
                let percent = percent.filter(|&percent: &u8| percent <= 100);
                (true, percent.ok_or("one of read, write, randread, randwrite, mixed:0 to mixed:100")?)
            }
        };
        Ok(Self { is_random, read_percent })
    }
}

/// The longest IO: what DataSegmentLength can hold, in whole KiB.
const IO_BYTES_MAX: u64 = 0xff_fc00;
/// The longest IO of the echo pair: the data of a write come with its command.
pub const WIRE_IO_BYTES_MAX: u32 = 256 << 10;
/// Sessions in all: ISIDs are numbered in 16 bits, and a target knows about 4096.
const SESSIONS_MAX: u64 = 65_000;
/// IOs in flight per connection.
const DEPTH_MAX: u32 = 4096;

impl Options {
    /// What clap cannot see.
    ///
    /// # Errors
    /// What is wrong, and what to do about it.
    pub fn check(&self) -> Result<(), LoadError> {
        let sessions = u64::from(self.connections) + u64::from(self.idle);
        let rules = [
            (self.connections == 0, "--connections: at least one; sessions that do nothing are --idle"),
            (sessions > SESSIONS_MAX, "--connections and --idle: at most 65000 sessions in all"),
            (self.qd == 0 || self.qd > DEPTH_MAX, "--qd: 1 to 4096"),
            (!self.bs.is_multiple_of(512), "--bs: a multiple of 512"),
            (self.wire && self.bs > WIRE_IO_BYTES_MAX, "--bs: at most 256K with --wire"),
            (self.luns.iter().any(|&lun| lun >= 1 << 14), "--lun: 0 to 16383"),
            (!(self.seconds > 0.0 && self.seconds < 1e6), "--seconds: more than 0, at most a million"),
            (!(self.warmup >= 0.0 && self.warmup < 1e6), "--warmup: 0 to a million"),
            (self.rate.is_some_and(|rate| !(0.001..=1e8).contains(&rate)), "--rate: 0.001 to 100000000"),
        ];
        match rules.iter().find(|(is_broken, _)| *is_broken) {
            Some((_, hint)) => Err(LoadError::Usage((*hint).to_owned())),
            None => Ok(()),
        }
    }
}

/// `--bs`.
fn io_bytes(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    if !(512..=IO_BYTES_MAX).contains(&bytes) {
        return Err("512 to 16383K".to_owned());
    }
    u32::try_from(bytes).map_err(|error| error.to_string())
}

/// `4096`, `64K`, `256M`, `1G`, `2T`: powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("a number, perhaps with K, M, G or T behind it".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("lunette-load").chain(line.split_whitespace());
        Options::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_of_the_comparison() {
        let options = parse(
            "--portal 127.0.0.1:3260 --target iqn.a:b --lun 0 --lun 300 --connections 4 --rw mixed:70 --bs 4096 --qd 32 \
             --seconds 5 --warmup 0.5 --rate 10000 --header-digest --data-digest --verify --span 1G --cpu 1 --idle 10 \
             --chap-user joe --chap-secret-file /x --json --quiet",
        )
        .unwrap();
        assert_eq!(options.luns, [0, 300]);
        assert_eq!(options.rw, Access { is_random: true, read_percent: 70 });
        assert_eq!((options.span, options.idle, options.warmup), (Some(1 << 30), 10, 0.5));
        options.check().unwrap();
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("2t"), Ok(2 << 40));
        assert!(
            size("").is_err() && size("K").is_err() && size("1.5G").is_err() && size("16777216T").is_err()
        );
        assert!(io_bytes("511").is_err() && io_bytes("16M").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_hint() {
        for (line, hint) in [
            ("--portal localhost", "invalid value"),
            ("--portal 127.0.0.1:1 --rw mixed:101", "mixed:0 to mixed:100"),
            ("--portal 127.0.0.1:1 --wire --lun 1", "cannot be used with"),
            ("--portal 127.0.0.1:1 --chap-user u", "--chap-secret-file"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
        for (line, hint) in [
            ("--connections 0", "--idle"),
            ("--qd 0", "1 to 4096"),
            ("--bs 1000", "multiple of 512"),
            ("--bs 512K --wire", "at most 256K"),
            ("--lun 16384", "16383"),
            ("--seconds 0", "more than 0"),
            ("--warmup=-1", "--warmup"),
            ("--rate 0", "--rate"),
        ] {
            let error = parse(&format!("--portal 127.0.0.1:1 {line}")).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(hint), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
