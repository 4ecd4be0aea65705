use super::plots::tick;
use super::*;
use crate::results::{Latency, Named, Point, Report, Results, ServerUse};

fn point(case: &str, peer: &str, round: u32, iops: f64) -> Point {
    let latency_us = Latency { p50: 10.0, p90: 12.0, p99: 40.0, p999: 120.5, ..Latency::default() };
    Point {
        case: case.to_owned(),
        peer: peer.to_owned(),
        round,
        load: Report { iops, mib_per_s: iops / 256.0, latency_us, ..Report::default() },
        beside: None,
        server: ServerUse { cores: 1.0, memory_kib: 2048, foreign_cores: 0.02, ..ServerUse::default() },
        distance_ns: None,
    }
}

/// Two rounds of one case with three peers, and fairness.
fn small() -> Results {
    let read = |peer, round, iops| point("randread-4k", peer, round, iops);
    let mut fair = point("fairness", "lunette", 0, 20_000.0);
    fair.beside = Some(Report { iops: 320_000.0, ..Report::default() });
    Results {
        machine: vec!["2 x A CPU".to_owned()],
        peers: vec![Named { name: "tgt".to_owned(), what: "1.0".to_owned() }],
        skipped: vec![Named { name: "istgt".to_owned(), what: "there is no istgt".to_owned() }],
        failures: Vec::new(),
        points: vec![
            read("lunette", 0, 500_000.0),
            read("lunette", 1, 600_000.0),
            read("echo", 0, 625_000.0),
            read("echo", 1, 600_000.0),
            read("tgt", 0, 40_000.0),
            read("tgt", 1, 40_000.0),
            fair,
        ],
    }
}

const PAGE: &str = "# Title
<!-- lunette-compare: machine -->
old
<!-- end -->
<!-- lunette-compare: goals -->
<!-- end -->
Words stay.
<!-- lunette-compare: throughput -->
<!-- end -->
<!-- lunette-compare: latency -->
<!-- end -->
<!-- lunette-compare: cost -->
<!-- end -->
<!-- lunette-compare: sweep -->
old
<!-- end -->
The end.
";

#[test]
fn page_of_a_small_result() {
    let expected = "# Title
<!-- lunette-compare: machine -->

* 2 x A CPU
* others had 0.02 of the two CPUs (median; 0.02 to 0.02)
* tgt: 1.0
* istgt: skipped, there is no istgt

<!-- end -->
<!-- lunette-compare: goals -->

| case | goal | lunette | the same, CPUs far apart | by core time | met | SPDK |
|---|---|---|---|---|---|---|
| 4 KiB random read, QD 32 | of echo, ≥ 0.9 | 0.90 (0.85 to 0.95, n = 2) | – | 0.90 (0.85 to 0.95, n = 2) | yes | – |
| 4 KiB random read, QD 32 | of tgt, ≥ 15 | 13.75 (13.12 to 14.38, n = 2) | – | 13.75 (13.12 to 14.38, n = 2) | **no** | – |
| 4 KiB random read, QD 1, beside 16 writers of QD 128 | p99 per mean of a fair share, ≤ 3 | 0.80 (0.80 to 0.80, n = 1) | – | – | yes | – |

<!-- end -->
Words stay.
<!-- lunette-compare: throughput -->

| IO/s or MiB/s | lunette | echo | tgt |
|---|---|---|---|
| 4 KiB random read, QD 32 | 550 000 (525 000 to 575 000) | 612 500 (606 250 to 618 750) | 40 000 (40 000 to 40 000) |
| 4 KiB random read, QD 1, beside 16 writers of QD 128 | 20 000 (20 000 to 20 000) | – | – |

<!-- end -->
<!-- lunette-compare: latency -->

![Latency, 4 KiB random read, QD 32](plots/latency-qd32.svg)

| µs: p50 / p99 / p99.9 | lunette | echo | tgt |
|---|---|---|---|
| 4 KiB random read, QD 32 | 10.0 / 40.0 / 120 | 10.0 / 40.0 / 120 | 10.0 / 40.0 / 120 |
| 4 KiB random read, QD 1, beside 16 writers of QD 128 | 10.0 / 40.0 / 120 | – | – |

<!-- end -->
<!-- lunette-compare: cost -->

| µs of a core per IO; cores; memory | lunette | echo | tgt |
|---|---|---|---|
| 4 KiB random read, QD 32 | 1.83; 1.00; 2.00 MiB | 1.63; 1.00; 2.00 MiB | 25.0; 1.00; 2.00 MiB |
| 4 KiB random read, QD 1, beside 16 writers of QD 128 | 2.94; 1.00; 2.00 MiB | – | – |

<!-- end -->
<!-- lunette-compare: sweep -->

*Not yet measured.*

<!-- end -->
The end.
";
    assert_eq!(page(&small(), PAGE, "plots").unwrap(), expected);
    // A second rendering finds what the first has left.
    assert_eq!(page(&small(), expected, "plots").unwrap(), expected);
}

#[test]
fn a_page_without_a_mark_is_refused() {
    let broken = PAGE.replace("compare: cost", "compare: costs");
    let said = page(&small(), &broken, "plots").unwrap_err();
    assert_eq!(said, "the page has no \"<!-- lunette-compare: cost -->\" with \"<!-- end -->\" after it");
}

#[test]
fn other_kinds_of_goals() {
    let mut storm = point("login-storm", "lunette", 0, 1.0);
    storm.load.login_seconds = 2.5;
    let mut fleet = point("targets-1000", "lunette", 0, 9.0);
    (fleet.server.start_seconds, fleet.server.start_lines) = (1.5, 10);
    fleet.load.login_seconds = 0.0004;
    let mut among = point("one-among-idle", "lunette", 0, 63_000.0);
    (among.server.memory_before_kib, among.server.memory_kib) = (1000, 82_900);
    let mut waking = point("rate-1000", "lunette", 0, 1000.0);
    waking.load.latency_us.p50 = 25.5;
    let points = vec![
        fleet,
        point("rate-1000-spin", "lunette", 0, 1000.0),
        waking,
        point("idle", "lunette", 0, 10.0),
        point("connections-1", "lunette", 0, 70_000.0),
        point("connections-64", "lunette", 0, 500_000.0),
        point("connections-64", "echo", 0, 900_000.0),
        point("connections-4096", "lunette", 0, 350_000.0),
        among,
        storm,
    ];
    let text = text(&Results { points, ..Results::default() });
    for row in [
        "| 1000 targets of one LUN | seconds until it serves, ≤ 5 | 1.50 (1.50 to 1.50, n = 1) | – | – | yes | – |",
        "| 1000 targets of one LUN | lines logged until then, ≤ 9 | 10.00 (10.00 to 10.00, n = 1) | – | – | **no** | – |",
        "| 1000 targets of one LUN | ms of logins, ≤ 1 | 0.40 (0.40 to 0.40, n = 1) | – | – | yes | – |",
        "| 4 KiB random read, 1000 IO/s, the core not full | µs of p50 above `rate-1000-spin`, ≤ 20 | 15.50 (15.50 to 15.50, n = 1) | – | – | yes | – |",
        "| 4 KiB random read, QD 1, among 4095 idle connections | KiB for each idle connection, ≤ 16 | 20.00 (20.00 to 20.00, n = 1) | – | – | **no** | – |",
        "| 10 IO/s, 4095 idle connections | cores in use, ≤ 0.01 | 1.00 (1.00 to 1.00, n = 1) | – | – | **no** | – |",
        "| 4 KiB random read, connections 4096, QD 1 | of the best `connections-…`, ≥ 0.6 | 0.70 (0.70 to 0.70, n = 1) | – | – | yes | – |",
        "| 4 KiB random read, QD 1, among 4095 idle connections | of `connections-1`, ≥ 0.8 | 0.90 (0.90 to 0.90, n = 1) | – | 0.90 (0.90 to 0.90, n = 1) | yes | – |",
        "| 1000 sessions log in at once | ms of logins, ≤ 2000 | 2500.00 (2500.00 to 2500.00, n = 1) | – | – | **no** | – |",
    ] {
        assert!(text.contains(row), "{text}");
    }
}

#[test]
fn points_are_compared_with_those_of_the_same_distance() {
    let mut results = small();
    results.points.retain(|point| point.case == "randread-4k");
    // Round 1 of lunette's and of tgt's were far apart, of the echo pair's none.
    for point in &mut results.points {
        let is_far = point.round == 1 && point.peer != "echo";
        point.distance_ns = Some(if is_far { 400.0 } else { 80.0 + f64::from(point.round) });
    }
    let told = text(&results);
    for line in [
        "* a cache line goes from one of the two CPUs to the other and back in 80 ns at 4 points (80 to 80); while they were far apart, \
         400 ns at 2 points (400 to 400)",
        "| 4 KiB random read, QD 32 | of echo, ≥ 0.9 | 0.80 (0.80 to 0.80, n = 1) | – | 0.80 (0.80 to 0.80, n = 1) | **no** | – |",
        "| 4 KiB random read, QD 32 | of tgt, ≥ 15 | 12.50 (12.50 to 12.50, n = 1) | 15.00 (15.00 to 15.00, n = 1) | 12.50 (12.50 to 12.50, n = 1) | **no** | – |",
        "| 4 KiB random read, QD 32 | 500 000 (500 000 to 500 000) | 612 500 (606 250 to 618 750) | 40 000 (40 000 to 40 000) |",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[test]
fn plots_of_a_small_result() {
    let folder = std::env::temp_dir().join(format!("compare-plots-{}", std::process::id()));
    let drawn = plots(&small(), &folder).unwrap();
    let names: Vec<_> = drawn.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["latency-qd32.svg"]);
    let text = std::fs::read_to_string(&drawn[0]).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    for part in [
        "prefers-color-scheme:dark",
        "currentColor",
        "\nLatency, 4 KiB random read, QD 32\n",
        "\np99.9\n",
        "\nlunette\n",
        "\necho\n",
        "stroke=\"#2F81F7\"",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains("#010203") && !text.contains("\nspdk\n"));
    assert!(text.trim_end().ends_with("</svg>"));
}

#[test]
fn ticks_differ_and_have_room() {
    let linear: Vec<_> =
        [0.0, 0.05, 0.1, 0.5, 1.0, 2.5, 10.0, 250.0].iter().map(|y| tick(*y, false)).collect();
    assert_eq!(linear, ["0", "0.05", "0.10", "0.50", "1.0", "2.5", "10", "250"]);
    let log: Vec<_> =
        [0.2, 0.3, 1.0, 2.0, 5.0, 9.0, 10.0, 40.0, 50.0].iter().map(|y| tick(*y, true)).collect();
    assert_eq!(log, ["0.20", "", "1.0", "2.0", "5.0", "", "10", "", "50"]);
}
