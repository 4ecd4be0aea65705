//! The tables, as Markdown. In the page each stands between two marks; everything else in the page is somebody's words.

use super::plots::images;
use crate::cases::{self, Case, Goal, Group};
use crate::peers::Kind;
use crate::results::{Point, Results};
use crate::stats::{Spread, ratios};

const END: &str = "<!-- end -->";
/// From this size on throughput is told in MiB/s.
const LARGE_BYTES: u32 = 65_536;
const NOTHING: &str = "–";
const NOT_YET: &str = "*Not yet measured.*\n";

/// What makes the text of a region.
type Writer = fn(&Told<'_>) -> String;

/// What is told of.
struct Told<'a> {
    all: &'a Results,
    /// What was measured while the CPUs were near each other: what tables and plots are of.
    near: Results,
    far: Results,
}

impl Told<'_> {
    fn of(all: &Results) -> Told<'_> {
        let (near, far) = all.by_distance();
        Told { all, near, far }
    }
}

/// The regions of the page.
const REGIONS: [(&str, Writer); 6] = [
    ("machine", machine),
    ("goals", goals),
    ("throughput", throughput),
    ("latency", latency),
    ("cost", cost),
    ("sweep", sweep),
];

/// All of it, for a terminal.
pub(crate) fn text(results: &Results) -> String {
    let told = Told::of(results);
    REGIONS
        .iter()
        .map(|(_, write)| write(&told))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The page with these results between its marks, and the plots that are in the folder; says which mark is missing.
pub(crate) fn page(results: &Results, page: &str, folder: &str) -> Result<String, String> {
    let mut text = page.to_owned();
    let told = Told::of(results);
    for (name, write) in REGIONS {
        let begin = format!("<!-- lunette-compare: {name} -->\n");
        let missing = || format!("the page has no {:?} with {END:?} after it", begin.trim());
        let (head, rest) = text.split_once(&begin).ok_or_else(missing)?;
        let (_, tail) = rest.split_once(END).ok_or_else(missing)?;
        let parts = [images(&told.near, name, folder), write(&told)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let body = if parts.is_empty() { NOT_YET.to_owned() } else { parts.join("\n") };
        text = format!("{head}{begin}\n{body}\n{END}{tail}");
    }
    Ok(text)
}

fn machine(told: &Told<'_>) -> String {
    let results = told.all;
    let lines = results.machine.iter().cloned().chain(foreign(results)).chain(distance(told));
    let peers = results.peers.iter().map(|peer| format!("{}: {}", peer.name, peer.what));
    let skipped = results.skipped.iter().map(|peer| format!("{}: skipped, {}", peer.name, peer.what));
    let failures = results.failures.iter().map(|line| format!("failed: {line}"));
    lines.chain(peers).chain(skipped).chain(failures).map(|line| format!("* {line}\n")).collect()
}

/// How quiet it was.
fn foreign(results: &Results) -> Option<String> {
    let served = results.points.iter().filter(|point| point.peer != Kind::Fio.name());
    let spread = Spread::of(&served.map(|point| point.server.foreign_cores).collect::<Vec<_>>())?;
    Some(format!(
        "others had {:.2} of the two CPUs (median; {:.2} to {:.2})",
        spread.median, spread.low, spread.high
    ))
}

/// How often the CPUs were how far apart.
fn distance(told: &Told<'_>) -> Option<String> {
    let of = |results: &Results| {
        let points: Vec<&Point> = results.points.iter().collect();
        let Spread { median, low, high, count } = of_points(&points, |point| point.distance_ns)?;
        Some(format!("{median:.0} ns at {count} points ({low:.0} to {high:.0})"))
    };
    let near = of(&told.near)?;
    let far = of(&told.far).map(|far| format!("; while they were far apart, {far}")).unwrap_or_default();
    Some(format!("a cache line goes from one of the two CPUs to the other and back in {near}{far}"))
}

fn goals(told: &Told<'_>) -> String {
    let (results, mut rows) = (&told.near, Vec::new());
    for case in cases::all() {
        for goal in &case.goals {
            let of = |results: &Results| Spread::of(&reached(results, &case, goal, Kind::Lunette));
            let (near, far) = (of(results), of(&told.far));
            let Some(counts) = near.as_ref().or(far.as_ref()) else { continue };
            let (bound, is_least) = goal.bound();
            let is_met = if is_least { counts.median >= bound } else { counts.median <= bound };
            let cell = |spread: Option<Spread>| {
                spread.map_or_else(|| NOTHING.to_owned(), |spread| spread_text(&spread))
            };
            let spdk = match goal {
                Goal::Peer(Kind::Spdk, _) => None,
                _ => Spread::of(&reached(results, &case, goal, Kind::Spdk)),
            };
            rows.push(vec![
                case.title.clone(),
                format!("{}, {} {bound}", what(goal), if is_least { "≥" } else { "≤" }),
                cell(near),
                cell(far),
                cell(by_core_time(results, &case, goal)),
                if is_met { "yes" } else { "**no**" }.to_owned(),
                cell(spdk),
            ]);
        }
    }
    let heads = ["case", "goal", "lunette", "the same, CPUs far apart", "by core time", "met", "SPDK"];
    table(&heads.map(str::to_owned), &rows)
}

/// What a goal is about, for each round; by `kind` in lunette's place.
fn reached(results: &Results, case: &Case, goal: &Goal, kind: Kind) -> Vec<f64> {
    let iops = |point: &Point| Some(point.load.iops);
    let own = results.figures(&case.name, kind.name(), iops);
    let each = |figure: &dyn Fn(&Point) -> Option<f64>| {
        results.of(&case.name, kind.name()).filter_map(figure).collect()
    };
    match goal {
        Goal::Peer(peer, _) => ratios(&own, &results.figures(&case.name, peer.name(), iops)),
        Goal::Case(other, _) => ratios(&own, &results.figures(other, kind.name(), iops)),
        Goal::Best(start, _) => {
            let same = |point: &&Point| point.case.starts_with(start) && point.peer == kind.name();
            let best = |round: u32| {
                let rates = results.points.iter().filter(same).filter(|point| point.round == round);
                rates.map(|point| point.load.iops).max_by(f64::total_cmp)
            };
            let bests: Vec<(u32, f64)> =
                own.iter().filter_map(|(round, _)| Some((*round, best(*round)?))).collect();
            ratios(&own, &bests)
        }
        Goal::Login(_) => each(&|point| Some(point.load.login_seconds * 1e3)),
        Goal::Start(_) => each(&|point| Some(point.server.start_seconds)),
        Goal::Lines(_) => each(&|point| Some(f64::from(point.server.start_lines))),
        Goal::Cores(_) => each(&|point| Some(point.server.cores)),
        Goal::IdleMemory(_) => each(&|point| {
            let grown_kib = point.server.memory_kib.saturating_sub(point.server.memory_before_kib);
            Some(grown_kib as f64 / f64::from(case.load.idle))
        }),
        Goal::Above(other, _) => {
            let p50 = |point: &Point| Some(point.load.latency_us.p50);
            let under = results.figures(other, kind.name(), p50);
            let of_round = |round: u32| under.iter().find(|(other, _)| *other == round);
            let over = results.figures(&case.name, kind.name(), p50);
            over.iter().filter_map(|(round, figure)| Some(figure - of_round(*round)?.1)).collect()
        }
        Goal::FairShare(_) => {
            let connections =
                f64::from(case.load.connections + case.beside.as_ref().map_or(0, |load| load.connections));
            let share = |point: &Point| {
                let iops = point.load.iops + point.beside.as_ref()?.iops;
                Some(point.load.latency_us.p99 / (connections * 1e6 / iops))
            };
            each(&share)
        }
    }
}

/// The same ratio of throughputs, if each server had had as much time of a core as the other: what took the core away from one
/// of them does not count.
fn by_core_time(results: &Results, case: &Case, goal: &Goal) -> Option<Spread> {
    let (other, peer) = match goal {
        Goal::Peer(peer, _) => (case.name.as_str(), *peer),
        Goal::Case(other, _) => (*other, Kind::Lunette),
        _ => return None,
    };
    let cost = |case: &str, kind: Kind| results.figures(case, kind.name(), Point::core_ns_per_io);
    Spread::of(&ratios(&cost(other, peer), &cost(&case.name, Kind::Lunette)))
}

fn what(goal: &Goal) -> String {
    match goal {
        Goal::Peer(kind, _) => format!("of {}", kind.name()),
        Goal::Case(name, _) => format!("of `{name}`"),
        Goal::Best(start, _) => format!("of the best `{start}…`"),
        Goal::Login(_) => "ms of logins".to_owned(),
        Goal::Start(_) => "seconds until it serves".to_owned(),
        Goal::Lines(_) => "lines logged until then".to_owned(),
        Goal::IdleMemory(_) => "KiB for each idle connection".to_owned(),
        Goal::Cores(_) => "cores in use".to_owned(),
        Goal::Above(name, _) => format!("µs of p50 above `{name}`"),
        Goal::FairShare(_) => "p99 per mean of a fair share".to_owned(),
    }
}

fn throughput(told: &Told<'_>) -> String {
    by_peer(&told.near, "IO/s or MiB/s", &[Group::Goals, Group::File, Group::Scale], |case, points| {
        let is_large = case.load.io_bytes >= LARGE_BYTES;
        let spread =
            of_points(points, |point| Some(if is_large { point.load.mib_per_s } else { point.load.iops }))?;
        let unit = if is_large { " MiB/s" } else { "" };
        Some(format!("{}{unit} ({} to {})", number(spread.median), number(spread.low), number(spread.high)))
    })
}

fn latency(told: &Told<'_>) -> String {
    by_peer(&told.near, "µs: p50 / p99 / p99.9", &[Group::Goals, Group::File, Group::Scale], |_, points| {
        let p50 = of_points(points, |point| Some(point.load.latency_us.p50))?;
        let p99 = of_points(points, |point| Some(point.load.latency_us.p99))?;
        let p999 = of_points(points, |point| Some(point.load.latency_us.p999))?;
        Some([p50, p99, p999].map(|spread| number(spread.median)).join(" / "))
    })
}

fn cost(told: &Told<'_>) -> String {
    by_peer(
        &told.near,
        "µs of a core per IO; cores; memory",
        &[Group::Goals, Group::File, Group::Scale],
        |_, points| {
            let time = of_points(points, |point| point.core_ns_per_io().map(|ns| ns / 1e3))?;
            let cores =
                of_points(points, |point| Some(point.server.cores * point.server.busy_share.unwrap_or(1.0)))?;
            let memory = of_points(points, |point| Some(point.server.memory_kib as f64 / 1024.0))?;
            let memory = if memory.median > 0.0 {
                format!("{} MiB", number(memory.median))
            } else {
                NOTHING.to_owned()
            };
            Some(format!("{}; {:.2}; {memory}", number(time.median), cores.median))
        },
    )
}

fn sweep(told: &Told<'_>) -> String {
    by_peer(&told.near, "IO/s", &[Group::Sweep], |_, points| {
        Some(number(of_points(points, |point| Some(point.load.iops))?.median))
    })
}

/// A table with a row for each case that was measured and a column for each peer that has anything in it.
fn by_peer(
    results: &Results,
    head: &str,
    groups: &[Group],
    cell: impl Fn(&Case, &[&Point]) -> Option<String>,
) -> String {
    let cases = cases::all().into_iter().filter(|case| groups.contains(&case.group));
    let cells = |case: &Case| {
        Kind::ALL.map(|kind| cell(case, &results.of(&case.name, kind.name()).collect::<Vec<_>>()))
    };
    let rows: Vec<(String, [Option<String>; 6])> = cases
        .map(|case| (case.title.clone(), cells(&case)))
        .filter(|(_, cells)| cells.iter().any(Option::is_some))
        .collect();
    let columns: Vec<usize> = (0..Kind::ALL.len())
        .filter(|column| rows.iter().any(|(_, cells)| cells[*column].is_some()))
        .collect();
    let names = columns.iter().map(|column| Kind::ALL[*column].name().to_owned());
    let heads: Vec<String> = std::iter::once(head.to_owned()).chain(names).collect();
    let told = |cells: &[Option<String>; 6], column: usize| {
        cells[column].clone().unwrap_or_else(|| NOTHING.to_owned())
    };
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|(title, cells)| {
            std::iter::once(title.clone()).chain(columns.iter().map(|column| told(cells, *column))).collect()
        })
        .collect();
    table(&heads, &lines)
}

fn of_points(points: &[&Point], figure: impl Fn(&Point) -> Option<f64>) -> Option<Spread> {
    Spread::of(&points.iter().filter_map(|point| figure(point)).collect::<Vec<_>>())
}

/// Nothing where there are no rows.
fn table(heads: &[String], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(heads.len()));
    std::iter::once(line(heads)).chain([rule]).chain(rows.iter().map(|row| line(row))).collect()
}

fn spread_text(spread: &Spread) -> String {
    format!("{:.2} ({:.2} to {:.2}, n = {})", spread.median, spread.low, spread.high, spread.count)
}

/// Three figures that count, and a gap before each three digits.
fn number(value: f64) -> String {
    if value < 100.0 {
        let places = if value < 10.0 { 2 } else { 1 };
        return format!("{value:.places$}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
