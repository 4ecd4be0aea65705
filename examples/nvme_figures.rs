//! What an IO costs in the NVMe driver: `nvme_figures [ROUNDS [QUEUE_DEPTH]]`. See scripts/nvme_figures.sh.

fn main() -> Result<(), String> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let mut next = |otherwise| numbers.next().unwrap_or(Ok(otherwise)).map_err(|error| error.to_string());
    let (rounds, depth) = (next(50_000)?, next(64)?);
    let depth = usize::try_from(depth).map_err(|error| error.to_string())?;
    let figures = lunette::bdev::nvme::figures::run(rounds, depth, 1)?;
    let each = |ns: u64| ns as f64 / figures.ios as f64;
    let driver = figures.submit_ns + figures.poll_ns;
    println!(
        "{} IOs: driver {:.1} ns (submit {:.1}, poll {:.1}), mock {:.1} ns",
        figures.ios,
        each(driver),
        each(figures.submit_ns),
        each(figures.poll_ns),
        each(figures.mock_ns)
    );
    Ok(())
}
