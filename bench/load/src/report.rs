//! What a run came to: a table for people, an object of JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::bench::Tally;
use crate::clock::SECOND_NS;
use crate::options::Options;

/// The figures of a run. Latencies are in microseconds.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the output, which the module describes")]
pub struct Report {
    /// IOs that ended well while measuring.
    pub ios: u64,
    /// Their data.
    pub bytes: u64,
    /// How long that was.
    pub seconds: f64,
    /// When it began, as `CLOCK_MONOTONIC` tells: for who looks at the target meanwhile.
    pub began_ns: u64,
    pub mean_us: f64,
    pub min_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// IOs and connections that failed, at any time.
    pub errors: u64,
    /// Reads that brought something else than was written.
    pub verify_errors: u64,
    /// Processor time of the client while measuring.
    pub client_cpu_seconds: f64,
    /// From the first connection's begin to the last session's login.
    pub login_seconds: f64,
    /// IOs sent again after unit attentions, BUSY and TASK SET FULL.
    pub retries: u64,
    /// Open loop: IOs that should have begun by the end and had not.
    pub unissued: u64,
    /// Reads that could not be verified: nothing is known of what was there.
    pub unchecked: u64,
    /// The first errors, in words.
    pub troubles: Vec<String>,
    /// What was run, in words.
    pub title: String,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        tally: &mut Tally,
        (began_ns, measured_ns): (u64, u64),
        cpu: Duration,
        login_ns: u64,
        unissued: u64,
    ) -> Self {
        let latencies = tally.latencies();
        let us = |ns: u64| ns as f64 / 1e3;
        let is_empty = latencies.is_empty();
        let quantile = |q| if is_empty { 0.0 } else { us(latencies.value_at_quantile(q)) };
        let extreme = |of: fn(&Histogram<u64>) -> u64| if is_empty { 0.0 } else { us(of(latencies)) };
        Self {
            mean_us: if is_empty { 0.0 } else { latencies.mean() / 1e3 },
            min_us: extreme(Histogram::min),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: extreme(Histogram::max),
            ios: tally.ios,
            bytes: tally.ios * u64::from(options.bs),
            seconds: measured_ns as f64 / SECOND_NS as f64,
            began_ns,
            errors: tally.errors,
            verify_errors: tally.verify_errors,
            client_cpu_seconds: cpu.as_secs_f64(),
            login_seconds: login_ns as f64 / SECOND_NS as f64,
            retries: tally.retries,
            unissued,
            unchecked: tally.unchecked,
            troubles: std::mem::take(&mut tally.troubles),
            title: title(options),
        }
    }

    /// All went well.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.verify_errors == 0
    }

    /// IOs per second.
    #[must_use]
    pub fn iops(&self) -> f64 {
        if self.seconds > 0.0 { self.ios as f64 / self.seconds } else { 0.0 }
    }

    /// MiB per second.
    #[must_use]
    pub fn mib_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes as f64 / f64::from(1 << 20) / self.seconds } else { 0.0 }
    }

    /// One object, on one line.
    #[must_use]
    pub fn json(&self) -> String {
        // All values are finite numbers: nothing has to be escaped.
        format!(
            "{{\"ios\":{},\"bytes\":{},\"seconds\":{:.6},\"began_ns\":{},\"iops\":{:.1},\"mib_per_s\":{:.3},\"latency_us\":{{\
             \"mean\":{:.3},\"min\":{:.3},\"p50\":{:.3},\"p90\":{:.3},\"p99\":{:.3},\"p999\":{:.3},\"max\":{:.3}}},\
             \"errors\":{},\"verify_errors\":{},\"client_cpu_seconds\":{:.6},\"login_seconds\":{:.6},\
             \"retries\":{},\"unissued\":{},\"unchecked\":{}}}",
            self.ios,
            self.bytes,
            self.seconds,
            self.began_ns,
            self.iops(),
            self.mib_per_s(),
            self.mean_us,
            self.min_us,
            self.p50_us,
            self.p90_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
            self.errors,
            self.verify_errors,
            self.client_cpu_seconds,
            self.login_seconds,
            self.retries,
            self.unissued,
            self.unchecked,
        )
    }

    /// A table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.title);
        let mut row = |name: &str, value: String| {
            // A String never fails to grow.
            let _ = writeln!(text, "  {name:<12}{value}");
        };
        row("throughput", format!("{:.0} IO/s, {:.1} MiB/s", self.iops(), self.mib_per_s()));
        row("done", format!("{} IOs in {:.3} s", self.ios, self.seconds));
        row(
            "latency, µs",
            format!(
                "mean {:.1}  min {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
                self.mean_us, self.min_us, self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us
            ),
        );
        let busy = if self.seconds > 0.0 { 100.0 * self.client_cpu_seconds / self.seconds } else { 0.0 };
        row("client", format!("{busy:.0} % of a CPU, logins took {:.3} s", self.login_seconds));
        row("errors", format!("{} and {} of verifying", self.errors, self.verify_errors));
        for (name, count, what) in [
            ("retries", self.retries, "IOs sent again after a unit attention, BUSY or TASK SET FULL"),
            (
                "unissued",
                self.unissued,
                "IOs that should have begun and had not: the target is slower than the rate",
            ),
            ("unchecked", self.unchecked, "reads of blocks of which nothing was known"),
        ] {
            if count > 0 {
                row(name, format!("{count} {what}"));
            }
        }
        text
    }
}

fn title(options: &Options) -> String {
    let access = match (options.rw.is_random, options.rw.read_percent) {
        (false, 0) => "sequential writes".to_owned(),
        (false, _) => "sequential reads".to_owned(),
        (true, 0) => "random writes".to_owned(),
        (true, 100) => "random reads".to_owned(),
        (true, percent) => format!("random, {percent} % reads"),
    };
    let pace = options.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("{rate} a second"));
    let (connections, plural) = (options.connections, if options.connections == 1 { "" } else { "s" });
    format!(
        "{access} of {} bytes at {}, {connections} connection{plural} at depth {}, {pace}",
        options.bs, options.portal, options.qd
    )
}
